"""Losses as pure functions: tensors in, a scalar out; no state, no configuration, no communication of their own.

A loss of moments takes the function that averages them over processes as an argument.
"""
