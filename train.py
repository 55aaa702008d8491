"""Train, test and use text models, and run studies: python train.py --help."""

from seqnorm.extra import or_exit

with or_exit():
    from seqnorm.studies.commands import main as study
    from seqnorm.training.run.main import main

if __name__ == "__main__":
    main(study=study)
