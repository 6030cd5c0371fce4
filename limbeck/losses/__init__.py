"""Losses as pure functions: tensors in, a scalar out; no state, no communication, no configuration."""
