"""The operators of TorchScript in JAX."""
