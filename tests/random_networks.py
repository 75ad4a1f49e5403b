"""Networks with random weights that NumPy draws.

To initialise a network, JAX compiles a program for each shape of a weight, which takes longer than most tests.
"""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np

from jaxvoice.weights import load_state, named_arrays

_GAINS = ("_g", "original0", "gamma")


def random_arrays(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by name: gains and variances around 1, other vectors around 0, the rest scaled by the inputs."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        of_norm = len(shape) == 1 and name.endswith((".weight", "running_var"))
        scale = 1.0 if of_norm or name.endswith(_GAINS) else 0.0
        spread = 0.1 if len(shape) <= 1 or scale else 1 / np.sqrt(np.prod(shape[1:]))
        arrays[name] = (scale + random.normal(0, spread, shape)).astype(np.float32)
    return arrays


def random_network(make: Callable[..., Any], config: Any, seed: int = 0) -> Any:
    """The network `make(config, key=key)` with `random_arrays`; integers are zero."""
    shapes = eqx.filter_eval_shape(make, config, key=jax.random.key(0))
    known = named_arrays(shapes)
    arrays = random_arrays({name: array.shape for name, array in known.items()}, seed)
    whole = {name: 0 * arrays[name] for name, array in known.items() if not np.issubdtype(array.dtype, np.floating)}
    return load_state(shapes, arrays | whole)
