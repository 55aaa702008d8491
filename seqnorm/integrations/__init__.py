"""Adapters to other people's code, each loaded when it is asked for."""
