"""An index of images: built once, added to, and searched with other images."""
