"""Classifiers of frozen features: fitted in seconds, from a handful of labels or many."""
