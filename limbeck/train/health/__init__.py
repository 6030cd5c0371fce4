"""Is a run well? Readings of a few images, rules about them, and what watches a run."""
