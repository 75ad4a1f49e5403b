"""Random numbers that are functions of their place: no generator state, the same on every machine and numpy version."""

import numpy as np
from jaxtyping import Float64, Int64, UInt64

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def random_bits(*counters: int | Int64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """64 random bits for every combination of `counters`, each an integer or an array of them.

    A chain of the SplitMix64 finaliser, one link per counter (Steele, Lea and Flood 2014, section 5).
    """
    bits = np.zeros(1, dtype=np.uint64)
    for counter in counters:
        number = np.asarray(counter, dtype=np.int64).astype(np.uint64)
        bits = bits * _GAMMA + number + _GAMMA
        bits = (bits ^ (bits >> np.uint64(30))) * _MIX1
        bits = (bits ^ (bits >> np.uint64(27))) * _MIX2
        bits = bits ^ (bits >> np.uint64(31))
    return bits


def uniform(*counters: int | Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """A number in [0, 1) for every combination of `counters`."""
    return (random_bits(*counters) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, *counters: int) -> Int64[np.ndarray, " count"]:
    """An order of 0 ... count - 1 chosen by `counters`."""
    return np.argsort(random_bits(*counters, np.arange(count)), kind="stable")
