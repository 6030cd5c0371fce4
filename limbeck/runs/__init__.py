"""Runs: choose what a request leaves out, train, and write a folder that documents and reproduces the run."""
