"""Norms outside of a recurrence: of padded sequences, of images, of styles."""

from .style import style_statistics as style_statistics
