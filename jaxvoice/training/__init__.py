"""The machinery every model family trains with: state, loop, parallelism, checkpoints, logs, precision."""
