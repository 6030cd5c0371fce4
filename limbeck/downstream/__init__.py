"""Uses of a trained network: choose, find, explore and label images, a package for each."""
