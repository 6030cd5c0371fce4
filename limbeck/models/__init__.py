"""Networks: backbones with features at every depth, heads, EMA copies and queues, encoders on disk."""
