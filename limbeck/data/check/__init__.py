"""Find what is wrong with images: issues, counts, a scan of a source and its page."""
