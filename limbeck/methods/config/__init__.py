"""The options of every method, in a file of its name, apart from the networks: what reads them needs no torch.

A configuration imports its method where it builds it, and types of tensors for type checkers alone.
"""
