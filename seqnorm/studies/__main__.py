"""python -m seqnorm.studies --help"""

from seqnorm.extra import or_exit

with or_exit():
    from .commands import main

if __name__ == "__main__":
    main()
