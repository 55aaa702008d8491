"""Norms outside a recurrence: of padded sequences, images and styles."""

from .style import style_statistics as style_statistics
