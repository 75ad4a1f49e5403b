"""The implementation of `jaxvoice inspect`: weight files as module trees with classes, shapes, norms and settings."""
