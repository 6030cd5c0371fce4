"""Numbers about features and networks: pure functions of tensors and modules."""
