"""One file for each library whose weights are known, with a ``Source`` named ``SOURCE``."""
