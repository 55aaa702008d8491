"""The command ``seqnorm``. It answers mistakes before it imports anything that takes long."""
