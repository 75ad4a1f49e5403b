"""Networks and inputs of the golden cases of RAVE."""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp

from jaxvoice.models.rave import PQMF, Rave, RaveConfig, RaveState, preset
from jaxvoice.weights import load_state, named_arrays
from tests.reference import golden

CASES = {
    "v1": ("v1",),
    "v2": ("v2",),
    "v2_small": ("v2_small",),
    "v2_noise": ("v2", "noise"),
    "v2_nopqmf": ("v2_nopqmf",),
    "v2_nopqmf_snake": ("v2_nopqmf", "snake"),
    "v3": ("v3",),
    "wasserstein": ("v2", "wasserstein"),
    "spherical": ("v2", "spherical"),
    "discrete": ("discrete",),
}
"""The presets and add-ons of the golden cases."""
NOT_ARRAYS = ("target_size",)
"""Buffers of the release that follow from the configuration."""


def with_capacity(config: RaveConfig, capacity: int) -> RaveConfig:
    parts = {name: getattr(config, name) for name in ("encoder", "generator", "discriminators")}
    return dataclasses.replace(
        config, **{name: dataclasses.replace(part, capacity=capacity) for name, part in parts.items()}
    )


def config_of(name: str) -> RaveConfig:
    return with_capacity(preset(*CASES[name]), 16)


def load(config: RaveConfig, given: Mapping[str, np.ndarray]) -> tuple[Rave, RaveState]:
    """The network and its state; arrays that `given` lacks have their initial values, and none is left over."""
    network = eqx.filter_eval_shape(Rave, config, key=jax.random.key(0))
    state = network.init_state()
    initial = named_arrays({"pqmf": PQMF(config.pqmf, causal=config.padding == "causal")}) | named_arrays(state)
    arrays = {name: array for name, array in given.items() if not name.endswith(NOT_ARRAYS)}
    of_network, of_state = named_arrays(network), named_arrays(state)
    assert set(arrays) <= set(of_network) | set(of_state)
    network = load_state(network, {name: arrays.get(name, initial.get(name)) for name in of_network})
    return network, load_state(state, {name: arrays.get(name, initial.get(name)) for name in of_state})


def with_formula_weights(config: RaveConfig) -> tuple[Rave, RaveState]:
    """A network with the weights of `golden.tensor`, for which nothing is compiled, and its initial state."""
    shapes = named_arrays(eqx.filter_eval_shape(Rave, config, key=jax.random.key(0)))
    return load(
        config,
        {name: golden.tensor(name, array.shape) for name, array in shapes.items() if not name.startswith("pqmf.")},
    )


def largest_error(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def channels_last(array: np.ndarray) -> jax.Array:
    return jnp.asarray(array).swapaxes(1, 2)


def channels_first(array: jax.Array) -> np.ndarray:
    return np.asarray(array).swapaxes(1, 2)


def noise_of(case: golden.Case, network: Rave) -> list[jax.Array]:
    """The normal random arrays of the bottleneck, in the shapes that `Bottleneck.draw` takes."""
    shapes = network.encoder.noise_shapes(channels_last(case["encoded"]).shape)
    names = sorted(name for name in case.arrays if name.startswith("noise_z"))
    given = [case[name] for name in names]
    # That of the MMD is stored as rows, noise channels with channels first.
    return [
        jnp.asarray(array).reshape(shape) if array.ndim == 2 else channels_last(array)
        for array, shape in zip(given, shapes, strict=True)
    ]
