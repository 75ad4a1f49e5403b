"""Descriptions of weight files as module trees with classes, shapes, norms and settings; used by `jaxvoice inspect`."""
