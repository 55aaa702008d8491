"""Run ``python -m seqnorm.studies``."""

from seqnorm.extra import or_exit

with or_exit():
    from .commands import main

if __name__ == "__main__":
    main()
