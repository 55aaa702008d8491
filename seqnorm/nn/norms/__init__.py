"""Norms outside of a recurrence: of padded sequences, of images, of styles."""
