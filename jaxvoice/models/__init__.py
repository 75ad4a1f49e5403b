"""Model families; each has a config, its networks, how it learns, and how released weights map onto it."""
