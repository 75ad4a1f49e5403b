"""Experiments with a promise: each file states its command, its data, its time and the result to expect."""
