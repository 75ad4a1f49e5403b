"""Experiments. Each file states its command, its data, its running time and its result."""
