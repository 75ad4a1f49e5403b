"""Measurements of jaxvoice beside torch; each module runs as `python -m experiments.benchmarks.<name>`."""
