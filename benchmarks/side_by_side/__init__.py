"""Limbeck beside other libraries on one machine: see `python -m benchmarks.side_by_side --help`."""
