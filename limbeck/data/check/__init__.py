"""What can be wrong with images: the look at every row, counts, a scan with its page."""
