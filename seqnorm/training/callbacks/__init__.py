"""Callbacks of training: what is watched, stopped, kept and written."""
