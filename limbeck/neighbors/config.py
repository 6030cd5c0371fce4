"""Settings that others have in their options."""

SIMILARITY_THRESHOLD = 0.95
"""Cosine of thumbnails from which two images count as near-duplicates; docs/neighbors.md says how it was chosen."""
