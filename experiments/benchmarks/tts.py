"""Speed and memory of text to speech (phonemes to mel) and of its training: jaxvoice compared with torch.

    python -m experiments.benchmarks.tts --json tts.json

- `mel`: one utterance of 8 s through encoder, duration model and decoder. jaxvoice runs twice: as one program for this
    length, and by `AcousticInference` as in `Synthesizer`, which pads to a few lengths and runs two programs. Both
    engines predict durations, but use given durations, so that they compute the same frames.
- `acoustic step`, `duration step`: a training step of each phase, with dropout.
- `upsampling`, `upsampling gradient`: Gaussian upsampling alone, for the largest batches.

The engines have the same weights, compute in float32 and take turns. Mel spectrograms and upsampled states must agree
to 1e-4, and gradients to 1e-3. The losses of the first step must agree to 5 % only, because of dropout
(`tests/reference` compares them without dropout). Operations are the matrix products and convolutions of jaxvoice's
program (`flops.traced_gflop`), or for upsampling the products of weights and states. The benchmark takes about four
minutes on two cores.
"""

import functools as ft
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common
from experiments.benchmarks.flops import traced_gflop, upsampling_gflop
from experiments.benchmarks.timing import Harness, TimingOptions, limit_threads
from experiments.benchmarks.train_step import compiled_step
from jaxvoice.data.batches import UtteranceBatch
from jaxvoice.models.gaussian_tts.config import DecoderConfig, DurationConfig, EncoderConfig, GaussianTTSConfig
from jaxvoice.text.phonemes import ALIGNED
from jaxvoice.training.process import keep_freed_memory
from jaxvoice.training.training_state import Precision

Engine = Literal["jaxvoice", "jaxvoice AcousticInference", "torch"]
Work = Literal["mel", "acoustic step", "duration step", "upsampling", "upsampling gradient"]
WORKS: tuple[Work, ...] = get_args(Work)
TOLERANCES: Mapping[Work, float] = {
    "mel": 1e-4,
    "acoustic step": 5e-2,
    "duration step": 5e-2,
    "upsampling": 1e-4,
    "upsampling gradient": 1e-3,
}
CONFIGS = {
    "full": GaussianTTSConfig(ALIGNED.codes),
    "small": GaussianTTSConfig(
        ALIGNED.codes,
        dim=32,
        encoder=EncoderConfig(layers=1, heads=2, feed_forward=64),
        decoder=DecoderConfig(layers=1, heads=2, feed_forward=64, postnet_layers=1),
        durations=DurationConfig(layers=1, hidden=16),
    ),
}
Call = Callable[[], Float32[np.ndarray, " numbers"]]
"""Does the work once, and returns numbers that must be equal for all engines."""


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    works: tuple[Work, ...] = WORKS
    """The rows to measure."""
    size: Literal["full", "small"] = "full"
    """Size of the networks; `small` is for tests of the benchmark."""
    phones: int = 100
    """Phonemes of the utterance."""
    frames: int = 689
    """Its mel frames of 11.6 ms."""
    batch: int = 8
    """Utterances in a training batch."""
    batch_phones: int = 77
    """Phonemes of the longest of them; the average of LJSpeech."""
    batch_frames: int = 573
    """Frames of the longest; the average of LJSpeech."""
    upsampling: tuple[int, int, int] = (32, 137, 870)
    """Batch, phonemes and frames of the upsampling."""
    max_seconds: float = 40.0
    """Stop a comparison after this time in seconds, but not before three rounds."""
    memory: bool = True
    """Measure the memory of each engine in a separate process."""
    memory_of: Engine | None = None
    """Print only the memory that this engine needs for the first of `works`; for internal use."""


def speech_batch(
    config: GaussianTTSConfig, batch: int, phones: int, frames: int, *, shortest: float = 0.8
) -> UtteranceBatch:
    """A padded batch of utterances from `shortest` times `phones` and `frames` up to these; mels are noise."""
    random = np.random.default_rng(0)
    parts = np.linspace(shortest, 1, batch)
    phone_count, frame_count = (np.rint(parts * most).astype(np.int32) for most in (phones, frames))
    ids, durations = np.zeros((batch, phones), np.int32), np.zeros((batch, phones), np.float32)
    mel = random.normal(-5.5, 2, (batch, config.mel.num_mels, frames)).astype(np.float32)
    for row, (phone_length, frame_length) in enumerate(zip(phone_count, frame_count, strict=True)):
        ids[row, :phone_length] = random.integers(1, len(config.codes) + 1, phone_length)
        durations[row, :phone_length] = np.diff(np.linspace(0, frame_length, phone_length + 1).astype(int))
        mel[row, :, frame_length:] = 0
    return UtteranceBatch(ids, phone_count, durations, mel, frame_count)


def batch_of(options: Options, work: Work) -> UtteranceBatch:
    """The inputs of the engines for `work`."""
    config = CONFIGS[options.size]
    if work == "mel":
        return speech_batch(config, 1, options.phones, options.frames, shortest=1)
    if work.startswith("upsampling"):
        return speech_batch(config, *options.upsampling)
    return speech_batch(config, options.batch, options.batch_phones, options.batch_frames)


def hidden_of(batch: UtteranceBatch, dim: int) -> Float32[np.ndarray, "batch phones dim"]:
    """Noise instead of the encoder's states."""
    return np.random.default_rng(1).standard_normal((*batch.phonemes.shape, dim)).astype(np.float32)


def networks_with(config: GaussianTTSConfig, weights: Mapping[str, Any], statistics: Mapping[str, Any]) -> Any:
    """jaxvoice's networks and `BatchNormStates` of these arrays, named as by `torch_gaussian_tts.arrays_of`."""
    import equinox as eqx
    import jax

    from jaxvoice.models.gaussian_tts import GaussianTTS
    from jaxvoice.weights import load_state

    shapes = eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0))
    norms = eqx.filter_eval_shape(lambda networks: networks.init_state(), shapes)
    return load_state(shapes, weights), load_state(norms, statistics)


def initial_networks(config: GaussianTTSConfig) -> Any:
    """jaxvoice's own initial networks and running statistics."""
    import equinox as eqx
    import jax

    from jaxvoice.models.gaussian_tts import GaussianTTS

    networks = eqx.filter_jit(GaussianTTS)(config, key=jax.random.key(0))
    return networks, networks.init_state()


def generate(networks: Any, norms: Any, batch: UtteranceBatch, frames: int) -> Any:
    """The normalised mel `(batch, frames, mels)` and the predicted durations of `batch`, with its given durations."""
    counts = {"phone_count": batch.phone_count, "frame_count": batch.frame_count, "frames": frames}
    decoded, durations = networks(batch.phonemes, batch.durations, norms, **counts)
    return decoded.mel, durations


def jaxvoice_mel(networks: Any, norms: Any, batch: UtteranceBatch) -> Call:
    """Mel generation as one program."""
    import equinox as eqx

    from jaxvoice import nn
    from jaxvoice.models.gaussian_tts.statistics import denormalise_mel

    config, frames = networks.config, batch.mel.shape[2]
    networks, program = eqx.filter_jit(nn.freeze)(networks), eqx.filter_jit(generate)
    given = batch._replace(mel=None)

    def call():
        made, durations = map(np.asarray, program(networks, norms, given, frames))
        return np.concatenate([denormalise_mel(made[0], config.statistics, config.mel).ravel(), durations[0]])

    return call


def acoustics_mel(networks: Any, norms: Any, batch: UtteranceBatch) -> Call:
    """Mel generation as in `Synthesizer`."""
    from jaxvoice.models.gaussian_tts.inference import AcousticInference, PhonemeInput

    ids = batch.phonemes[0]
    codes = tuple(networks.config.codes[number - 1] for number in ids)
    line = PhonemeInput(codes, ids, np.zeros(len(ids), bool), batch.durations[0].astype(np.int64))
    inference = AcousticInference(networks, norms, networks.config)
    return lambda: inference([line])[0].mel.ravel()


def torch_mel(networks: Any, config: GaussianTTSConfig, batch: UtteranceBatch) -> Call:
    """Mel generation in torch."""
    import torch

    from experiments.benchmarks.torch_gaussian_tts import Padding
    from jaxvoice.models.gaussian_tts.statistics import denormalise_mel

    networks.eval()

    def call():
        with torch.inference_mode():
            phones = Padding(torch.from_numpy(batch.phone_count), batch.phonemes.shape[1])
            frames = Padding(torch.from_numpy(batch.frame_count), batch.mel.shape[2])
            hidden = networks.acoustic.encode(torch.from_numpy(batch.phonemes), phones)
            durations = networks.durations(hidden, phones)
            _, made, _ = networks.acoustic.decode(hidden, torch.from_numpy(batch.durations), phones, frames)
        return np.concatenate(
            [denormalise_mel(made[0].numpy(), config.statistics, config.mel).ravel(), durations[0].numpy()]
        )

    return call


def jaxvoice_step(
    networks: Any, norms: Any, batch: UtteranceBatch, phase: int, *, precision: Precision = "float32"
) -> Call:
    """A training step, compiled as in `jaxvoice.training.loop`."""
    import equinox as eqx
    import jax

    from jaxvoice.models.gaussian_tts.training import GaussianTTSTask, TrainingConfig

    task = GaussianTTSTask(TrainingConfig(networks.config, precision=precision), steps_per_epoch=100)
    # Arrays are donated to the step, so the model and its average must not share them.
    copies = [jax.tree.map(np.array, (networks.acoustic, norms)) for _ in range(2)]
    durations = jax.tree.map(np.array, networks.durations)
    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    # The initial state of the optimisers is zero.
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = eqx.tree_at(
        lambda s: (
            s.acoustic.model,
            s.acoustic.model_state,
            s.acoustic.average,
            s.acoustic.average_state,
            s.durations.model,
        ),
        state,
        (*copies[0], *copies[1], durations),
    )
    step, _ = compiled_step(task, state, batch, phase=phase)
    names = ("duration",) if phase else ("first", "second")

    def call():
        metrics = step()
        return np.array([metrics[name] for name in names], np.float32)

    return call


def torch_step(networks: Any, config: GaussianTTSConfig, batch: UtteranceBatch, phase: int) -> Call:
    """The same step in torch."""
    import torch

    from experiments.benchmarks.torch_gaussian_training import Batch, Trainer

    trainer = Trainer(networks, statistics=config.statistics)
    given = Batch(*map(torch.from_numpy, batch))

    def call():
        losses = (trainer.duration_step if phase else trainer.acoustic_step)(given)
        return np.array([value for name, value in losses.items() if name != "gradient_norm"], np.float32)

    return call


def jaxvoice_upsampling(batch: UtteranceBatch, dim: int, *, gradient: bool) -> Call:
    """Upsampling of noise, or the gradient of its mean square with respect to hidden states and width."""
    import jax
    from jax import numpy as jnp

    from jaxvoice.models.gaussian_tts import GaussianUpsampling
    from jaxvoice.models.gaussian_tts.config import UpsamplingConfig

    layer, frames = GaussianUpsampling(dim, UpsamplingConfig(), key=jax.random.key(0)), batch.mel.shape[2]
    given = tuple(map(jnp.asarray, (batch.durations, batch.phone_count, batch.frame_count)))
    hidden = jnp.asarray(hidden_of(batch, dim))

    def upsample(layer, hidden, given):
        durations, phone_count, frame_count = given
        return layer(hidden, durations, phone_count=phone_count, frame_count=frame_count, frames=frames)[0]

    forward = jax.jit(upsample)
    backward = jax.jit(
        jax.grad(lambda both, given: jnp.mean(jnp.square(upsample(both[0], both[1], given))), allow_int=True)
    )
    if not gradient:
        return lambda: np.asarray(forward(layer, hidden, given)).ravel()

    def call():
        of_layer, of_hidden = backward((layer, hidden), given)
        return np.append(np.asarray(of_hidden).ravel(), of_layer.log_sigma)

    return call


def torch_upsampling(batch: UtteranceBatch, dim: int, *, gradient: bool) -> Call:
    """The same in torch."""
    import torch

    from experiments.benchmarks.torch_gaussian_tts import Padding, Upsampling

    layer, hidden = Upsampling(), torch.from_numpy(hidden_of(batch, dim))
    durations, *counts = map(torch.from_numpy, (batch.durations, batch.phone_count, batch.frame_count))

    def run(hidden):
        paddings = (Padding(counts[0], hidden.shape[1]), Padding(counts[1], batch.mel.shape[2]))
        return layer(hidden, durations, *paddings)[0]

    def forward():
        with torch.inference_mode():
            return run(hidden).numpy().ravel()

    def backward():
        leaf = hidden.clone().requires_grad_()
        layer.log_sigma.grad = None
        run(leaf).square().mean().backward()
        assert leaf.grad is not None and layer.log_sigma.grad is not None
        return np.append(leaf.grad.numpy().ravel(), layer.log_sigma.grad.numpy())

    return backward if gradient else forward


def build(engine: Engine, work: Work, options: Options, arrays: tuple[Any, Any] | None = None) -> Call:
    """A call of `engine` that does `work`, with the given weights and running statistics or its own initial ones."""
    config, batch = CONFIGS[options.size], batch_of(options, work)
    if work.startswith("upsampling"):
        upsample = torch_upsampling if engine == "torch" else jaxvoice_upsampling
        return upsample(batch, config.dim, gradient=work == "upsampling gradient")
    phase = int(work == "duration step")
    if engine == "torch":
        import torch

        from experiments.benchmarks.torch_gaussian_tts import GaussianTTS, load_arrays

        torch.manual_seed(0)
        networks = GaussianTTS(config) if arrays is None else load_arrays(GaussianTTS(config), *arrays)
        return torch_mel(networks, config, batch) if work == "mel" else torch_step(networks, config, batch, phase)
    networks, norms = initial_networks(config) if arrays is None else networks_with(config, *arrays)
    if work == "mel":
        return (jaxvoice_mel if engine == "jaxvoice" else acoustics_mel)(networks, norms, batch)
    return jaxvoice_step(networks, norms, batch, phase)


def work_gflop(work: Work, options: Options) -> float:
    """The operations of `work`, in units of 10^9: those of the plain program, without padding to other lengths."""
    import equinox as eqx
    import jax

    from jaxvoice.models.gaussian_tts.training import GaussianTTSTask, TrainingConfig

    config, batch = CONFIGS[options.size], batch_of(options, work)
    if work.startswith("upsampling"):
        size, phones, frames = options.upsampling
        # The gradient needs two products of the same size besides the forward pass.
        return (3 if work == "upsampling gradient" else 1) * upsampling_gflop(size, phones, frames, config.dim)
    if work == "mel":
        networks, norms = eqx.filter_eval_shape(initial_networks, config)
        return traced_gflop(generate, networks, norms, batch._replace(mel=None), batch.mel.shape[2])
    task = GaussianTTSTask(TrainingConfig(config), steps_per_epoch=100)
    state, phase = eqx.filter_eval_shape(task.init, key=jax.random.key(0)), int(work == "duration step")
    return traced_gflop(lambda state, batch: task.step(state, batch, key=jax.random.key(0), phase=phase), state, batch)


def measure(harness: Harness, work: Work, options: Options, arrays: tuple[Any, Any]) -> list[dict[str, Any]]:
    """Rows of a comparison, one per engine."""
    engines: tuple[Engine, ...] = ("jaxvoice", "torch")
    if work == "mel":
        engines = get_args(Engine)
    calls = {engine: build(engine, work, options, arrays) for engine in engines}
    numbers = {engine: call() for engine, call in calls.items()}
    differences = {}
    for engine, mine in numbers.items():
        # `AcousticInference` does not return predicted durations, so only mel spectrograms are compared.
        its = numbers["torch"][: len(mine)] if engine == "jaxvoice AcousticInference" else numbers["torch"]
        differences[engine] = common.check_agreement(f"{work}, {engine}", mine, its, TOLERANCES[work])
    comparison, gflop = harness.compare(work, calls, warm_up=2), work_gflop(work, options)
    batch = batch_of(options, work)
    contract = CONFIGS[options.size].mel
    seconds = float(batch.frame_count.sum()) * contract.hop_length / contract.sample_rate
    return [
        {
            "work": work,
            "engine": engine,
            "batch": len(batch.phonemes),
            "frames": batch.mel.shape[2],
            "x real time": seconds / comparison.timings[engine].minimum,
            **comparison.row(engine, gflop=gflop, milliseconds=True),
            "difference": differences[engine],
        }
        for engine in engines
    ]


def memory_rows(rows: list[dict[str, Any]], options: Options, threads: int) -> None:
    """Measure the memory of each row in a separate process, and add it to the row."""
    for row in rows:
        arguments = ["--memory-of", row["engine"], "--works", row["work"], "--threads", str(threads)]
        for name in ("size", "phones", "frames", "batch", "batch_phones", "batch_frames"):
            arguments += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        arguments += ["--upsampling", *map(str, options.upsampling)]
        memory = common.memory_of("experiments.benchmarks.tts", arguments)
        row |= {"MiB ready": memory["ready_mib"], "MiB peak": memory["peak_mib"]}


def main(options: Options) -> None:
    """Run the benchmark."""
    # As in the experiments; it applies to both engines.
    keep_freed_memory()
    if options.memory_of is not None:
        limit_threads(options.threads)
        return common.print_memory(ft.partial(build, options.memory_of, options.works[0], options))

    import torch

    from experiments.benchmarks.torch_gaussian_tts import GaussianTTS, arrays_of

    harness = Harness(options)
    torch.set_num_threads(harness.threads)
    torch.manual_seed(0)
    arrays = arrays_of(GaussianTTS(CONFIGS[options.size]))
    rows = [row for work in options.works for row in measure(harness, work, options, arrays)]
    if options.memory:
        memory_rows(rows, options, harness.threads)
    common.report(f"text to speech, {options.size} size, float32", options, rows, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
