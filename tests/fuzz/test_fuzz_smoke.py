"""A few hundred reproducible mutations of sound files, read by the fuzz target."""

import random
from collections import Counter

from tests.fuzz.fuzz_weights import PLACES, check, mutated, seeds


def test_mutated_files_are_read_or_refused(tmp_path):
    rng = random.Random(0)
    outcomes = Counter(check(mutated(seed, rng), tmp_path / "file") for seed in seeds() for _ in range(40))
    assert set(outcomes) == {"read", "CheckpointError", "RefusedError"} and min(outcomes.values()) > 50


def test_seeds_of_the_fuzzer_are_read(tmp_path):
    assert {seed[0] for seed in seeds()} == set(range(len(PLACES)))
    for seed in seeds():
        assert check(seed, tmp_path / "file") == "read", seed
