"""jaxvoice: published speech systems in JAX and Equinox; train them, run them, take them apart."""

from jaxvoice._version import __version__ as __version__
