"""Use of trained models on lines of text."""
