"""Networks: backbones that answer at every depth, heads, averages and queues, and encoders on a disk."""
