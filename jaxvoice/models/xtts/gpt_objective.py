"""One step of the language model of XTTS without its update: references, codes, targets and losses."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax import lax, numpy as jnp
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray

from jaxvoice.config import check_positive, check_types
from jaxvoice.data.batches import ColumnBatch
from jaxvoice.models.xtts.config import GPTConfig
from jaxvoice.models.xtts.gpt import GPT, Logits, Targets, summed_cross_entropy, training_targets
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel
from jaxvoice.nn import length_mask
from jaxvoice.training.training_state import Precision, to_compute


@dataclass(frozen=True)
class MaskingConfig:
    """Which codes are left out of the loss, and which positions are hidden. The reference of an example is a part of
    the same recording, whose codes the model could copy, so they are left out by default.

    `RELEASED_MASKING` has the values of the release, whose deviations are mistakes.

    **Raises:** `ConfigError` for values of the wrong type, or below 1.

    coqui-ai/TTS `TTS/tts/layers/xtts/gpt.py:GPT.forward`.
    """

    references: bool = True
    """Whether codes of the reference are left out of the loss."""
    only_last: bool = False
    """Whether only codes of the last example of a batch are left out, as in the release."""
    reference_stride: int | None = None
    """Samples by which the ends of a reference are divided; None for those of a code. The release divides by 256, a
    quarter of a code, so that it leaves out other codes."""
    padded_references: bool = False
    """Whether references include the padding of shorter ones in a batch, as in the release."""
    stops: int = 1
    """Stops after the codes that are predicted. The release predicts 4 of them."""
    hidden_stop: bool = False
    """Whether codes do not attend to the stop of the text, as in the training of the release. In synthesis, they do."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "stops")
        check_positive(self, "reference_stride", hint="None is the number of samples of a code")


RELEASED_MASKING = MaskingConfig(
    only_last=True, reference_stride=256, padded_references=True, stops=4, hidden_stop=True
)
"""The losses of the release, with its mistakes."""


class Slices(NamedTuple):
    """The references of a batch, parts of its recordings."""

    starts: Int32[Array, " batch"]
    """The first sample of each."""
    ends: Int32[Array, " batch"]
    """The sample after the last one."""


class StepInputs(NamedTuple):
    """What a step computes from a batch without the trained network."""

    reference: Float[Array, "batch frames mels"]
    """Mel spectrograms of the references."""
    reference_count: Int32[Array, " batch"]
    """Valid frames of each."""
    targets: Targets
    """Text and codes, and what should be predicted."""


class Totals(NamedTuple):
    """Numbers of predicted tokens of a whole batch, by which sums are divided."""

    text: Float[Array, ""]
    """Text tokens with their stop."""
    codes: Float[Array, ""]
    """Codes outside references, with their stops."""


class Sums(NamedTuple):
    """Losses and correct predictions of some rows of a batch, divided by the totals of the batch."""

    text: Float[Array, ""]
    """Cross-entropy of text tokens."""
    codes: Float[Array, ""]
    """Cross-entropy of codes."""
    accuracy: Float[Array, ""]
    """Share of codes that are the most likely ones."""


def reference_slices(lengths: Int[Array, " batch"], *, shortest: int, longest: int, key: PRNGKeyArray | None) -> Slices:
    """The part of each recording that is its reference: `shortest` to `longest` samples at a random place.

    Of a recording that is not longer than the drawn length, half is taken, so that other codes remain for the loss.
    Without a key, a reference is the beginning of the recording, of the largest length.

    coqui-ai/TTS `TTS/tts/layers/xtts/trainer/dataset.py`.
    """
    lengths = jnp.asarray(lengths, jnp.int32)
    if key is None:
        sizes, shares = jnp.full(lengths.shape, longest, jnp.int32), jnp.zeros(lengths.shape)
    else:
        size_key, start_key = jax.random.split(key)
        sizes = jax.random.randint(size_key, lengths.shape, shortest, longest + 1, jnp.int32)
        shares = jax.random.uniform(start_key, lengths.shape)
    sizes = jnp.where(sizes < lengths, sizes, lengths // 2)
    last = lengths - sizes
    starts = jnp.minimum((shares * (last + 1).astype(jnp.float32)).astype(jnp.int32), last)
    return Slices(starts, starts + sizes)


def mask_references(targets: Targets, slices: Slices, masking: MaskingConfig, samples_per_code: int) -> Targets:
    """`targets` without the codes that overlap the reference, as configured by `masking`."""
    if not masking.references:
        return targets
    stride = masking.reference_stride or samples_per_code
    first, last = slices.starts // stride, -(-slices.ends // stride)
    place = jnp.arange(targets.code_targets.shape[-1], dtype=jnp.int32)[None]
    inside = (place >= first[:, None]) & (place < last[:, None])
    if masking.only_last:
        inside &= (jnp.arange(len(first)) == len(first) - 1)[:, None]
    return targets._replace(code_targets=jnp.where(inside, -1, targets.code_targets))


def step_inputs(
    batch: ColumnBatch,
    config: GPTConfig,
    codec: CodecNetwork,
    statistics: Float[Array, " mels"],
    masking: MaskingConfig,
    reference_samples: tuple[int, int],
    *,
    key: PRNGKeyArray | None,
) -> StepInputs:
    """The inputs of a step for a batch with the columns `audio`, `tokens` and `gain`. No gradient passes through them.

    **Arguments:**

    - `config`: the language model.
    - `codec`: the frozen DVAE, which computes the codes of the recordings.
    - `statistics`: those of the mel spectrograms of references.
    - `masking`: which codes are left out of the loss.
    - `reference_samples`: the shortest and the longest reference.
    - `key`: random key of the references; `None` for a validation, see `reference_slices`.
    """
    audio = jnp.asarray(batch.columns["audio"]).astype(jnp.float32) * jnp.asarray(batch.columns["gain"])[:, None]
    lengths = jnp.asarray(batch.lengths["audio"], jnp.int32)
    shortest, longest = reference_samples
    slices = reference_slices(lengths, shortest=shortest, longest=longest, key=key)
    dvae = codec.config.dvae
    mel = normalized_log_mel(audio, codec.mel_stats, dvae.mel, length=lengths)
    codes = codec.dvae.encode(mel, length=lengths // dvae.mel.hop_length + 1)
    targets = training_targets(
        jnp.asarray(batch.columns["tokens"]),
        jnp.asarray(batch.lengths["tokens"], jnp.int32),
        codes,
        dvae.code_count(lengths),
        config,
        stops=masking.stops,
        hidden_stop=masking.hidden_stop,
    )
    targets = mask_references(targets, slices, masking, dvae.samples_per_code)
    real = (lengths > 0)[:, None]  # rows that fill a batch have no length
    targets = targets._replace(
        text_targets=jnp.where(real, targets.text_targets, -1), code_targets=jnp.where(real, targets.code_targets, -1)
    )
    size = min(longest, audio.shape[1])
    padded = jnp.pad(audio, ((0, 0), (0, size)))
    parts = jax.vmap(lambda row, start: lax.dynamic_slice_in_dim(row, start, size))(padded, slices.starts)
    counts = slices.ends - slices.starts
    parts = jnp.where(length_mask(counts, size), parts, 0.0)
    of_reference = config.conditioning.mel
    valid = None if masking.padded_references else counts
    reference = normalized_log_mel(parts, statistics, of_reference, length=valid)
    return lax.stop_gradient(StepInputs(reference, counts // of_reference.hop_length + 1, targets))


def totals(targets: Targets) -> Totals:
    """The numbers of predicted tokens, at least 1."""
    counts = [jnp.sum(of >= 0).astype(jnp.float32) for of in (targets.text_targets, targets.code_targets)]
    return Totals(*(jnp.maximum(count, 1.0) for count in counts))


def losses(
    gpt: GPT,
    inputs: StepInputs,
    whole: Totals,
    masking: MaskingConfig,
    *,
    precision: Precision = "float32",
    inference: bool = False,
    key: PRNGKeyArray | None = None,
) -> Sums:
    """The losses of some rows of a batch with the totals `whole`.

    **Arguments:** `precision`, that of the network's computation; `inference` and `key`, as in `GPT`.
    """
    targets, count = inputs.targets, None if masking.padded_references else inputs.reference_count
    network, mel = to_compute((gpt, inputs.reference), precision)
    vectors = network.condition(mel, count=count)
    logits = network(
        vectors,
        targets.text,
        targets.codes,
        text_count=targets.text_count,
        code_count=targets.code_count,
        conditioning_count=None if gpt.conditioning_perceiver is not None else count,
        inference=inference,
        key=key,
    )
    return loss_sums(logits, targets, whole)


def loss_sums(logits: Logits, targets: Targets, whole: Totals) -> Sums:
    """The losses of the predictions `logits`, divided by the totals `whole`."""
    correct = jnp.argmax(logits.audio, axis=-1) == targets.code_targets
    return Sums(
        summed_cross_entropy(logits.text, targets.text_targets) / whole.text,
        summed_cross_entropy(logits.audio, targets.code_targets) / whole.codes,
        jnp.sum(correct, dtype=jnp.float32) / whole.codes,
    )
