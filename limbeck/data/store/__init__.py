"""A folder that holds decoded images: what training reads, and what builds it."""
