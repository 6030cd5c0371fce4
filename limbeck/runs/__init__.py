"""A run, from what a user asks for to its folder: what was not asked is chosen, and it is trained and judged."""
