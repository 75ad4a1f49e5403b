"""Speed and memory of the H/ASP speaker encoder: jaxvoice compared with torch, with equal random weights.

    python -m experiments.benchmarks.speaker_encoder --json speaker_encoder.json

- `embedding`: waveforms to embeddings, from numpy to numpy.
- `gradient`: the gradient of the speaker consistency loss with respect to waveforms as long as the segments of YourTTS.
    The weights are constants and get no gradient.

With `--layers`, the convolutions of the four groups of blocks are also timed alone, at the shapes of each work.

The engines take turns, and the precision is float32. Embeddings must agree to 1e-4 of the largest value, and gradients
to 1e-2: those of torch differ by 2e-3 from a computation in float64, those of jaxvoice by 2e-4. Operations are those of
`flops.traced_gflop`. The memory of each engine is the peak of a separate process.
"""

import functools as ft
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions, engine_memory, print_engine_memory
from jaxvoice.models.speaker_encoder.config import ResNetConfig, preset
from jaxvoice.training.process import keep_freed_memory

Engine = Literal["jaxvoice", "torch"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
Work = Literal["embedding", "gradient"]
WORKS: tuple[Work, ...] = get_args(Work)
TOLERANCE: dict[Work, float] = {"embedding": 1e-4, "gradient": 1e-2}
Array = Float32[np.ndarray, "..."]


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    works: tuple[Work, ...] = WORKS
    """What is measured."""
    seconds: float = 2.5
    """Length of each waveform of `embedding` in seconds; 2.5 is a window of an embedding."""
    recordings: int = 10
    """Number of waveforms of `embedding`; 10 are the windows of a recording."""
    batch: int = 8
    """Number of waveforms of `gradient`."""
    segment: int = 8192
    """Samples of each waveform of `gradient`."""
    repeats: int = 9
    """Rounds of each comparison."""
    max_seconds: float = 60.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    layers: bool = False
    """Also time a convolution of each group of blocks."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory of this engine for the first work; for internal use."""


def audio_of(options: Options, work: Work, seed: int = 0) -> Float32[np.ndarray, "batch samples"]:
    """Noise with the level of speech; the cost does not depend on its content."""
    rows, samples = options.recordings, round(options.seconds * preset("hasp").sample_rate)
    if work == "gradient":
        rows, samples = options.batch, options.segment
    return np.random.default_rng(seed).normal(0, 0.1, (rows, samples)).astype(np.float32)


def torch_encoder() -> Any:
    """The encoder of torch, with the same weights in every call and running statistics that are not trivial."""
    import torch

    from experiments.benchmarks.torch_hasp import HASP

    mel: Any = preset("hasp").mel
    torch.manual_seed(0)
    encoder = HASP()
    buffers: Any = encoder.torch_spec
    buffers.get_buffer("0.filter").copy_(torch.tensor([[[-mel.preemphasis, 1.0]]]))
    buffers.get_buffer("1.spectrogram.window").copy_(torch.tensor(np.asarray(mel.window_values())))
    buffers.get_buffer("1.mel_scale.fb").copy_(torch.tensor(np.ascontiguousarray(mel.filterbank().T)))
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return encoder.eval().requires_grad_(False)


def weights_of(encoder: Any) -> dict[str, Array]:
    """The weights, statistics and buffers of torch under their released names."""
    arrays = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    return {name: array.astype(np.int32) if array.dtype == np.int64 else array for name, array in arrays.items()}


def jaxvoice_encoder() -> Any:
    """The encoder of jaxvoice with the weights of torch."""
    import equinox as eqx
    import jax

    from jaxvoice.models.speaker_encoder import build
    from jaxvoice.weights import load_state

    skeleton = eqx.filter_eval_shape(build, preset("hasp"), key=jax.random.key(0))
    return load_state(skeleton, weights_of(torch_encoder()))


def jaxvoice_call(options: Options, work: Work) -> tuple[Callable[[], Array], float]:
    """The work in jaxvoice, and its operations in units of 10^9."""
    import equinox as eqx
    import jax
    from jax import lax, numpy as jnp

    encoder, audio = jaxvoice_encoder(), audio_of(options, work)

    def embed(encoder: Any, audio: Any) -> Any:
        return encoder(audio)

    def loss(audio: Any, encoder: Any, reference: Any) -> Any:
        return -jnp.mean(jnp.sum(encoder(audio) * lax.stop_gradient(encoder(reference)), -1))

    def gradient(encoder: Any, audio: Any, reference: Any) -> Any:
        return jax.grad(loss)(audio, encoder, reference)

    function: Callable[..., Any] = embed if work == "embedding" else gradient
    arguments = (encoder, audio) if work == "embedding" else (encoder, audio, audio_of(options, work, 1))
    compiled = eqx.filter_jit(function)
    return lambda: np.asarray(compiled(*arguments)), flops.traced_gflop(function, *arguments)


def normalized(encoder: Any, audio: Any) -> Any:
    """Embeddings of norm 1 in torch."""
    import torch

    return torch.nn.functional.normalize(encoder(audio), dim=1)


def torch_call(options: Options, work: Work) -> Callable[[], Array]:
    """The same work in torch."""
    import torch

    encoder, audio = torch_encoder(), torch.from_numpy(audio_of(options, work))
    if work == "embedding":

        def embed() -> Array:
            with torch.inference_mode():
                return normalized(encoder, audio).numpy()

        return embed
    reference = torch.from_numpy(audio_of(options, work, 1))

    def gradient() -> Array:
        with torch.no_grad():
            target = normalized(encoder, reference)
        heard = audio.clone().requires_grad_()
        return torch.autograd.grad(-(normalized(encoder, heard) * target).sum(-1).mean(), heard)[0].numpy()

    return gradient


def call_of(options: Options, engine: Engine, work: Work) -> Callable[[], Array]:
    """The work in `engine`."""
    return jaxvoice_call(options, work)[0] if engine == "jaxvoice" else torch_call(options, work)


def measure(harness: Harness, options: Options, work: Work) -> list[dict[str, Any]]:
    """Rows of a comparison, one for each engine; their results must agree."""
    call, gflop = jaxvoice_call(options, work)
    calls: dict[str, Callable[[], Array]] = {"jaxvoice": call, "torch": torch_call(options, work)}
    results = {engine: call() for engine, call in calls.items()}
    difference = common.check_agreement(work, results["jaxvoice"], results["torch"], TOLERANCE[work])
    comparison = harness.compare(work, calls)
    rows, samples = audio_of(options, work).shape
    return [
        {
            "work": work,
            "engine": engine,
            "audio s": rows * samples / preset("hasp").sample_rate,
            **comparison.row(engine, gflop=gflop),
            "difference": difference,
        }
        for engine in calls
    ]


def layer_calls(shape: tuple[int, int, int, int]) -> dict[str, Callable[[], Array]]:
    """A convolution with three taps on each axis in both engines; `shape` is `(batch, mels, frames, channels)`."""
    import equinox as eqx
    import jax
    import torch
    from jax import numpy as jnp

    from jaxvoice.nn import Conv2d

    channels, random = shape[-1], np.random.default_rng(2)
    x = random.normal(0, 1, shape).astype(np.float32)
    weight = random.normal(0, (9 * channels) ** -0.5, (channels, channels, 3, 3)).astype(np.float32)
    conv = Conv2d(channels, channels, 3, padding=1, use_bias=False, key=jax.random.key(0))
    conv = eqx.tree_at(lambda one: one.weight, conv, jnp.asarray(weight))
    compiled, given = eqx.filter_jit(lambda conv, x: conv(x)), jnp.asarray(x)
    of_torch, kernel = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(weight)

    def torch_conv() -> Array:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(of_torch, kernel, padding=1).numpy().transpose(0, 2, 3, 1)

    return {"jaxvoice": lambda: np.asarray(compiled(conv, given)), "torch": torch_conv}


def measure_layers(harness: Harness, options: Options, work: Work) -> list[dict[str, Any]]:
    """Rows of a convolution of each group of blocks, one for each engine."""
    config = preset("hasp")
    assert isinstance(config.network, ResNetConfig)
    batch, samples = audio_of(options, work).shape
    mels, frames, rows = config.mel.num_mels, samples // config.mel.hop_length + 1, []
    for channels in config.network.channels:
        shape = (batch, mels, frames, channels)
        name = f"3 x 3, {' x '.join(map(str, shape))}"
        calls = layer_calls(shape)
        difference = common.check_agreement(name, calls["jaxvoice"](), calls["torch"](), TOLERANCE["embedding"])
        comparison = harness.compare(name, calls)
        gflop = 2 * 9 * channels * float(np.prod(shape)) / 1e9
        rows += [
            {
                "work": work,
                "convolution": name,
                "engine": engine,
                **comparison.row(engine, gflop=gflop, milliseconds=True),
                "difference": difference,
            }
            for engine in calls
        ]
        mels, frames = -(-mels // 2), -(-frames // 2)
    return rows


def measure_memory(options: Options, threads: int) -> list[dict[str, Any]]:
    """The peak memory of each work and engine, in separate processes."""
    rows = []
    for work in options.works:
        for engine in ENGINES:
            arguments = ["--works", work, "--seconds", str(options.seconds), "--recordings", str(options.recordings)]
            arguments += ["--batch", str(options.batch), "--segment", str(options.segment)]
            peaks = engine_memory("experiments.benchmarks.speaker_encoder", engine, threads, arguments)
            rows.append({"work": work, "engine": engine, **peaks})
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    keep_freed_memory()
    if options.memory_of is not None:
        call = ft.partial(call_of, options, options.memory_of, options.works[0])
        return print_engine_memory(options.memory_of, options.threads, call)

    import torch

    harness = Harness(options)
    torch.set_num_threads(harness.threads)
    rows = [row for work in options.works for row in measure(harness, options, work)]
    layers = [row for work in options.works for row in measure_layers(harness, options, work)] if options.layers else []
    memory = measure_memory(options, harness.threads) if options.memory else []
    common.report("H/ASP speaker encoder, float32", options, rows, memory, layers, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
