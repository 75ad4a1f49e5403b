"""What `jaxvoice inspect` shows: a weight file as a tree of modules with classes, shapes, norms and settings."""
