"""A tour from data to a report in one command: on handwritten digits, or on time series."""
