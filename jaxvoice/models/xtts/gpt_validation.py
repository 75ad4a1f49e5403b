"""The validation of the language model of XTTS on held-out utterances."""

from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from jaxvoice.data.batches import ColumnBatch
from jaxvoice.data.buckets import column_batches_in_order
from jaxvoice.data.store import Store
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.gpt import GPT
from jaxvoice.models.xtts.gpt_columns import COLUMNS, FIXED, batch_shapes
from jaxvoice.models.xtts.gpt_objective import MaskingConfig, Sums, Totals, losses, step_inputs, totals
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import ValidationResult

METRICS = MappingProxyType(
    {
        "code_loss": "mean cross-entropy of the codes of held-out utterances, given the text and the codes before them",
        "text_loss": "mean cross-entropy of the text tokens of held-out utterances",
    }
)
"""Metrics that can select the best model; lower is better."""


class GPTValidation:
    """The metrics `METRICS` on held-out utterances, and the share of codes that the model finds most likely.

    The reference of an utterance is its beginning, and its codes are left out of the metrics.

    **Arguments:** `store`, held-out utterances with the columns of `training_columns`; `config`, the model;
    `reference_samples`, the shortest and the longest reference; `batch_size`, the number of utterances that are
    evaluated at a time.
    """

    def __init__(self, store: Store, config: XTTSConfig, *, reference_samples: tuple[int, int], batch_size: int = 8):
        self.held_out: dict[str, Any] = describe_held_out(store)
        self._reference_samples = reference_samples
        # One shape, because programs take longer to compile than to run.
        shapes = batch_shapes(store, config, 1)
        batches = column_batches_in_order(store, min(batch_size, len(store)), COLUMNS, FIXED, shapes)
        self._batches = [jax.tree.map(jnp.asarray, batch) for _, batch in batches]

    def __call__(self, gpt: GPT, codec: CodecNetwork, statistics: Float[Array, " mels"]) -> ValidationResult:
        """The metrics of `gpt` with the frozen DVAE `codec` and the `statistics` of the mels of references."""
        sums, counts = np.zeros(3), np.zeros(3)
        for batch in self._batches:
            found, whole = _evaluate(gpt, batch, codec, statistics, self._reference_samples)
            weights = np.asarray([whole.text, whole.codes, whole.codes], np.float64)
            sums, counts = sums + weights * np.asarray(found, np.float64), counts + weights
        text, codes, accuracy = (sums / counts).tolist()
        return ValidationResult({"code_loss": codes, "text_loss": text, "code_accuracy": accuracy})


@eqx.filter_jit
def _evaluate(
    gpt: GPT,
    batch: ColumnBatch,
    codec: CodecNetwork,
    statistics: Float[Array, " mels"],
    reference_samples: tuple[int, int],
) -> tuple[Sums, Totals]:
    masking = MaskingConfig()
    inputs = step_inputs(batch, gpt.config, codec, statistics, masking, reference_samples, key=None)
    whole = totals(inputs.targets)
    return losses(gpt, inputs, whole, masking, inference=True), whole
