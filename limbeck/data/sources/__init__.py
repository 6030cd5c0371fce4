"""Where images come from: every kind of source becomes rows to decode."""
