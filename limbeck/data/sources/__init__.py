"""Inputs of every kind, read as samples: one module per kind of source, found by its name.

To add a kind, write a module here that defines `SOURCE`, a `SourceType` (see `base`); nothing else lists it.
"""
