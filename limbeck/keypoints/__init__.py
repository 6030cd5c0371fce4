"""Keypoints without labels: the detector of AutoLink, its files, and keypoints of images in a table."""
