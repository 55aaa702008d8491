"""The command line, and the training runs that it makes."""
