"""Plan what many images take on many machines, from constants that are measured here or given."""
