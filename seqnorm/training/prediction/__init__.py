"""Use of trained models on new texts and series."""
