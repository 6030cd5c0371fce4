"""Training: the loop, the optimizer step, checkpoints, logs and health."""
