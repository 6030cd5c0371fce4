"""Which images to label first: strategies that choose rows of a feature matrix."""
