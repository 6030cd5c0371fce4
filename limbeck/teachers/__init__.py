"""Frozen teachers for distillation: any network, with its own preprocessing, identified by a digest of its weights."""
