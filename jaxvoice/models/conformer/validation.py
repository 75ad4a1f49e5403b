"""Validation of a frame-wise phoneme recogniser: frame accuracy and phoneme error rate of held-out utterances."""

from collections.abc import Sequence
from types import MappingProxyType

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxvoice.data.batches import ColumnBatch
from jaxvoice.data.buckets import column_batches_in_order
from jaxvoice.data.store import Store
from jaxvoice.dsp.nemo_mel import nemo_log_mel
from jaxvoice.models.conformer.config import ConformerConfig
from jaxvoice.models.conformer.network import Conformer, ConformerState
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import ValidationResult

COLUMNS, FIXED = ("audio", "labels"), ("gain",)
"""The columns of a batch: for `LengthBuckets(columns=COLUMNS, fixed=FIXED)`."""
METRICS = MappingProxyType(
    {
        "phoneme_error_rate": "edits per phoneme between predicted and true phonemes, repeats merged",
        "frame_error": "share of frames whose most probable phoneme is wrong",
        "cross_entropy": "mean cross-entropy of the frames",
    }
)
"""Metrics that can select the best model; lower is better."""


def batch_features(batch: ColumnBatch, config: ConformerConfig) -> tuple[Float[Array, "batch frames mels"], Array]:
    """The features of a batch with the columns `audio` and `gain`, and the number of valid frames of each row."""
    audio = jnp.asarray(batch.columns["audio"]).astype(jnp.float32)
    audio = audio * jnp.asarray(batch.columns["gain"], jnp.float32)[:, None]
    length = jnp.asarray(batch.lengths["audio"])
    features, count = nemo_log_mel(audio, config.mel, length=length, release=config.nemo_release)
    return features.swapaxes(1, 2), count


def batch_labels(batch: ColumnBatch, frames: int) -> Int[Array, "batch frames"]:
    """The labels of a batch for `frames` frames of the encoder: ids from 1 on, and 0 where there is no label."""
    labels = jnp.asarray(batch.columns["labels"])[:, :frames].astype(jnp.int32)
    valid = jnp.arange(labels.shape[1], dtype=jnp.int32)[None] < jnp.asarray(batch.lengths["labels"])[:, None]
    labels = jnp.where(valid, labels, 0)
    return jnp.pad(labels, ((0, 0), (0, frames - labels.shape[1])))


def frame_losses(
    logits: Float[Array, "batch frames classes"], labels: Int[Array, "batch frames"]
) -> Float[Array, "batch frames"]:
    """Cross-entropy of each frame, 0 where there is no label; the class of label n is n - 1."""
    logs = jax.nn.log_softmax(logits.astype(jnp.float32))
    picked = jnp.take_along_axis(logs, jnp.maximum(labels - 1, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(labels > 0, -picked, jnp.float32(0))


class Validation:
    """Evaluates a recogniser on held-out utterances:

    - `phoneme_error_rate`: the sum of edit distances between the predicted and the true labels of the utterances, both
        with repeats merged, divided by the number of true ones;
    - `frame_accuracy`: the share of labelled frames whose most probable phoneme is the true one, and `frame_error`, its
        complement;
    - `cross_entropy`: the mean over labelled frames.

    **Arguments:** `store`, the held-out utterances with the columns `audio`, `gain` and `labels`; `config` of the
    network; `batch_size`, the largest number of utterances in a batch.

    **Raises:** `DataError` for an empty store, or one without these columns.
    """

    def __init__(self, store: Store, config: ConformerConfig, *, batch_size: int = 16):
        self._config = config
        self.held_out = describe_held_out(store)
        size = min(batch_size, max(1, len(store)))
        self._batches = list(column_batches_in_order(store, size, COLUMNS, FIXED))
        self._evaluate = eqx.filter_jit(self._predict)

    def _predict(self, model: Conformer, state: ConformerState, batch: ColumnBatch) -> tuple[Array, Array, Array]:
        """Predicted and true labels, 0 where there is none, and the losses."""
        features, count = batch_features(batch, self._config)
        output = model(features, state, length=count, inference=True)
        assert output.logits is not None
        labels = batch_labels(batch, output.logits.shape[1])
        frames = jnp.arange(labels.shape[1], dtype=jnp.int32)[None]
        labels = jnp.where(frames < model.encoder.output_length(count)[:, None], labels, 0)
        predicted = jnp.argmax(output.logits, -1).astype(jnp.int32) + 1
        return jnp.where(labels > 0, predicted, 0), labels, frame_losses(output.logits, labels)

    def __call__(self, model: Conformer, state: ConformerState) -> ValidationResult:
        """The metrics of a network and its running statistics."""
        edits = phonemes = frames = right = 0
        loss = 0.0
        for rows, batch in self._batches:
            predicted, labels, losses = map(np.asarray, self._evaluate(model, state, batch))
            loss += float(losses.sum(dtype=np.float64))
            for row in range(len(rows)):
                valid = labels[row] > 0
                found, true = predicted[row][valid], labels[row][valid]
                frames, right = frames + len(true), right + int((found == true).sum())
                reference = _merged(true)
                edits, phonemes = edits + edit_distance(_merged(found), reference), phonemes + len(reference)
        accuracy = right / max(1, frames)
        return ValidationResult(
            {
                "phoneme_error_rate": edits / max(1, phonemes),
                "frame_error": 1 - accuracy,
                "frame_accuracy": accuracy,
                "cross_entropy": loss / max(1, frames),
            }
        )


def _merged(labels: np.ndarray) -> list[int]:
    return labels[np.flatnonzero(np.diff(labels, prepend=0))].tolist()


def edit_distance(left: Sequence[int], right: Sequence[int]) -> int:
    """The smallest number of insertions, deletions and substitutions that change `left` to `right`."""
    target = np.asarray(right)
    steps = np.arange(len(target) + 1)
    row = steps
    for number, item in enumerate(left, 1):
        replaced = row[:-1] + (target != item)
        best = np.concatenate([[number], np.minimum(replaced, row[1:] + 1)])
        # An insertion costs 1 for each position: the minimum over earlier positions of `best - steps`, plus `steps`.
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])
