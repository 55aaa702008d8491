"""Trains, tests and uses text classifiers, and runs studies: python train.py --help."""

import sys

from seqnorm.training.cli import main

if __name__ == "__main__":
    if sys.argv[1:2] == ["study"]:
        from seqnorm.studies.commands import main as study

        study(sys.argv[2:], "python train.py study")
    else:
        main()
