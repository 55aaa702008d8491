"""Trains, tests and uses text classifiers, and runs studies: python train.py --help."""

from seqnorm.studies.commands import main as study
from seqnorm.training.cli import main

if __name__ == "__main__":
    main(study=study)
