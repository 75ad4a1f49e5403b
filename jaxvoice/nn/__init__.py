"""jaxvoice."""
