"""Trains, tests and uses text classifiers: python train.py --help."""

from seqnorm.training.cli import main

if __name__ == "__main__":
    main()
