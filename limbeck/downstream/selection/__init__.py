"""Strategies that choose which images to label first: rows of a feature matrix."""
