"""Random views of images: what they are, their parameters, and the pixels."""
