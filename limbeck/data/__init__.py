"""From images on a disk to batches of views."""
