"""The command ``seqnorm`` from a checkout: python train.py fit."""

from seqnorm.command.main import main

if __name__ == "__main__":
    main()
