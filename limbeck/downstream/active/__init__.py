"""Cycles of learning, choosing and labeling, with an oracle that knows the labels."""
