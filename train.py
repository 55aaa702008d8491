"""Train, test and use text models, and run studies: python train.py --help."""

from seqnorm.extra import or_exit

with or_exit():
    from seqnorm.studies.commands import main as study
    from seqnorm.training.cli import main
    from seqnorm.training.language_cli import LanguageCLI

if __name__ == "__main__":
    main({"language": LanguageCLI}, study=study)
