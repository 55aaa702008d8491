"""Layers and cells that users build."""
