"""python -m seqnorm.studies --help"""

from .commands import main

if __name__ == "__main__":
    main()
