"""Features of the images of a store: the input of a network, and one pass of a network over it."""
