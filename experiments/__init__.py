"""Experiments, one file each, run as `python -m experiments.<name>`, and `benchmarks`."""
