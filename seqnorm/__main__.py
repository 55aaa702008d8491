"""Run ``python -m seqnorm``, which is the command ``seqnorm``."""

from seqnorm.command.main import main

if __name__ == "__main__":
    main()
