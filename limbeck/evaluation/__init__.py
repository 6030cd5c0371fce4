"""Evaluate every layer of a backbone on labeled images, and compare students with their teacher."""
