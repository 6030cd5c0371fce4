"""What people do with a trained network: choose, find, explore and label images, a package for each."""
