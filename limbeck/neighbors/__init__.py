"""Which images resemble which: the neighbour graph, bags of mates, near-duplicates."""
