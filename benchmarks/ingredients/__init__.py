"""What each ingredient of ten minutes from nothing is worth, and lightly's SimCLR beside it."""
