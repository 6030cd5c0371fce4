"""Limbeck: from a folder of unlabelled images to a small, strong vision backbone that can be cut at any layer."""
