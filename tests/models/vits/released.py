"""Weights of the golden cases of coqui's VITS, and comparisons with their results."""

import equinox as eqx
import jax
import numpy as np

from jaxvoice.weights import load_state


def renamed(name):
    """The name of jaxvoice for a tensor of the release: the older spelling of weight norm."""
    spellings = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    for theirs, ours in spellings.items():
        name = name.replace(theirs, ours)
    return name


def released_state(case, prefix=""):
    """The weights of a case under the names of jaxvoice, without `prefix`."""
    return {renamed(name): value for name, value in case.state_dict(strip=prefix).items()}


def load(case, make, config, prefix):
    return load_state(eqx.filter_eval_shape(make, config, key=jax.random.key(0)), released_state(case, f"{prefix}."))


def assert_close(found, case, name):
    """Equal within ten times the rounding of the case, or 1e-5, relative to the largest value."""
    expected = case[name]
    tolerance = max(10 * case.meta["rounding"][name], 1e-5) * max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def last(array):
    """An array of torch, `(batch, channels, time)`, with channels last."""
    return np.swapaxes(array, 1, 2)


def linear_spectrogram(audio):
    """The magnitudes `(frames, 513)` of `audio`, computed with numpy in float64."""
    padded = np.pad(audio.astype(np.float64), 384, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::256]
    spectra = np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)))
    return np.sqrt(np.abs(spectra) ** 2 + 1e-6).astype(np.float32)
