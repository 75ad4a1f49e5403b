"""Cost of capturing activations: a RAVE with and without five captured layers, in one run.

    python -m experiments.benchmarks.capture --json capture.json

Audio is encoded and decoded, in one program each: the network alone, and with the activations of five layers of encoder
and generator returned beside the audio. Weight norm is folded, the precision is float32, weights are random, and the
audio of both programs must agree.
"""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tyro

from experiments.benchmarks import common
from experiments.benchmarks.timing import Harness, TimingOptions
from jaxvoice.training.process import keep_freed_memory

NAMES = (
    "encoder.encoder.net.4",
    "encoder.encoder.net.14",
    "decoder.net.5",
    "decoder.net.10",
    "decoder.net.20",
)
"""Activations between the stages, those of the generator's last stage among them, which are the largest."""


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    presets: tuple[Literal["v2", "v2_nopqmf"], ...] = ("v2", "v2_nopqmf")
    """Configurations of RAVE."""
    seconds: float = 5.0
    """Length of the audio."""
    capacity: int | None = None
    """Capacity of the networks instead of that of the preset, for tests."""
    repeats: int = 9
    """Rounds of each comparison."""
    max_seconds: float = 120.0
    """Stop a comparison after this time in seconds, but not before three rounds."""


def programs(options: Options, preset: str) -> tuple[dict[str, Callable[[], Any]], float, float]:
    """The two programs, the seconds of audio, and the MiB of the captured activations."""
    from dataclasses import replace

    import equinox as eqx
    import jax
    from jax import numpy as jnp

    from jaxvoice import dissect, nn
    from jaxvoice.models.rave import Rave, preset as preset_config

    config = preset_config(preset)
    if options.capacity is not None:
        encoder = replace(config.encoder, capacity=options.capacity)
        config = replace(config, encoder=encoder, generator=replace(config.generator, capacity=options.capacity))
    network = eqx.filter_jit(ft.partial(nn.freeze, winograd=False))(Rave(config, key=jax.random.key(0)))
    state = network.init_state()
    frames = max(1, round(options.seconds * config.sample_rate / config.hop_length))
    samples = np.random.default_rng(1).normal(0, 0.1, (frames * config.hop_length, 1))
    audio = jnp.asarray(samples, jnp.float32)

    def reconstruct(network: Any, audio: Any) -> Any:
        return network(audio, state, inference=True)[0]

    def reconstruct_tagged(network: Any, audio: Any) -> Any:
        return reconstruct(dissect.tag(network), audio)

    plain = eqx.filter_jit(reconstruct)
    capturing = eqx.filter_jit(dissect.capture(reconstruct_tagged, NAMES))
    captured = capturing(network, audio)[1]
    calls: dict[str, Callable[[], Any]] = {
        "plain": lambda: jax.block_until_ready(plain(network, audio)),
        "capture": lambda: jax.block_until_ready(capturing(network, audio))[0],
    }
    size = sum(activation.nbytes for activation in captured.values()) / 2**20
    return calls, len(samples) / config.sample_rate, size


def main(options: Options) -> None:
    """Run the benchmark."""
    keep_freed_memory()
    harness = Harness(options)
    rows = []
    for preset in options.presets:
        calls, seconds, size = programs(options, preset)
        results = {name: np.asarray(call()) for name, call in calls.items()}
        difference = common.check_agreement(preset, results["plain"], results["capture"], 1e-5)
        comparison = harness.compare(preset, calls)
        minimum = comparison.timings["plain"].minimum
        for name in calls:
            rows.append(
                {
                    "preset": preset,
                    "program": name,
                    "audio s": seconds,
                    "captured MiB": size if name == "capture" else None,
                    "of plain": comparison.timings[name].minimum / minimum,
                    **comparison.row(name),
                    "difference": difference,
                }
            )
    common.report("Capture of five layers of RAVE, float32", options, rows, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
