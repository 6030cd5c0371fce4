"""Arithmetic only: tensors in, tensor out; no state, no collectives, no configuration."""
