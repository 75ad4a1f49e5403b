"""Measurements of jaxvoice compared with torch; each module runs as `python -m experiments.benchmarks.<name>`."""
