"""Similar images: k-nearest-neighbor graphs, bags for distillation, near-duplicates."""
