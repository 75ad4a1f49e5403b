"""The `Task` that trains the language model of XTTS."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxvoice.config import check_field, check_not_negative, check_positive, check_types, to_dict
from jaxvoice.data.batches import ColumnBatch
from jaxvoice.errors import ConfigError
from jaxvoice.models import xtts_dvae
from jaxvoice.models.xtts.bundle import DVAE_FOLDER, UNTRAINED, VOCABULARY_FILE
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.family import FAMILY
from jaxvoice.models.xtts.gpt import GPT
from jaxvoice.models.xtts.gpt_objective import MaskingConfig, StepInputs, Sums, losses, step_inputs, totals
from jaxvoice.models.xtts.gpt_validation import METRICS, GPTValidation
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.models.xtts.voices import StoredVoice, check_voices, write_voices
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.training.accumulation import accumulate_gradient
from jaxvoice.training.learner import Learner, check_ema_decay
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.task import Task, ValidationResult
from jaxvoice.training.training_state import Counters, Precision, all_finite, guarded
from jaxvoice.weights import count_parameters
from jaxvoice.weights.file_writing import atomic_write

COLUMNS = MappingProxyType(
    {
        "loss": "weighted sum of the losses of text and codes",
        "code_loss": "mean cross-entropy of the codes outside references, and of the stop",
        "text_loss": "mean cross-entropy of the text tokens, and of the stop",
        "code_accuracy": "share of these codes that are the most likely ones",
        "gradient_norm, learning_rate": "of the language model, before clipping",
    }
)
"""Meanings of the values that training logs."""


def gpt_optimizer() -> OptimizerConfig:
    """AdamW as in the release's fine-tuning; embeddings, norms and biases do not decay."""
    return OptimizerConfig(
        learning_rate=5e-6,
        b1=0.9,
        b2=0.96,
        weight_decay=1e-2,
        weight_decay_on="kernels",
        schedule="milestones",
        milestones=(900_000, 2_700_000, 5_400_000),
        decay=0.5,
    )


@dataclass(frozen=True)
class GPTTrainingConfig:
    """The training of the language model; the defaults are those of the fine-tuning of the release, except that its
    mistakes in masking are corrected (`masking`).

    `precision` is that of the network's computation; parameters, mel spectrograms, codes and losses stay float32.
    `ema_decay` keeps a moving average of the weights, which is validated and saved; `None` keeps none.

    **Raises:** `ConfigError` for values of the wrong type or range.

    coqui-ai/TTS `recipes/ljspeech/xtts_v2/train_gpt_xtts.py`, `TTS/tts/layers/xtts/trainer/gpt_trainer.py`.
    """

    model: XTTSConfig = field(default_factory=XTTSConfig)
    """The networks, of which the language model is trained."""
    optimizer: OptimizerConfig = field(default_factory=gpt_optimizer)
    """Its optimiser."""
    text_weight: float = 0.01
    """Weight of the loss of text tokens."""
    code_weight: float = 1.0
    """Weight of the loss of codes."""
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    """Which codes are left out of the loss."""
    reference_seconds: tuple[float, float] = (3.0, 6.0)
    """Shortest and longest reference in seconds; half of recordings that are not longer than the drawn length."""
    accumulate: int = 1
    """Parts into which each batch is divided, and of which the gradients are summed, with the memory of one part."""
    precision: Precision = "float32"
    """Precision of the network's computation; parameters, mels, codes and losses stay float32."""
    ema_decay: float | None = None
    """Decay per step of the moving average of the weights; None keeps no average."""
    dvae_identity: str | None = None
    """Identity of the DVAE, which a run stores, so that it is not resumed with another one; None allows any."""
    vocabulary_identity: str | None = None
    """Identity of the vocabulary of the text tokens, for the same purpose."""

    def __post_init__(self) -> None:
        check_types(self)
        check_ema_decay(self.ema_decay)
        check_not_negative(self, "text_weight", hint="0 leaves the loss out")
        check_positive(self, "code_weight", "reference_seconds", "accumulate")
        shortest, longest = self.reference_seconds
        check_field(self, "reference_seconds", shortest <= longest, "contain the shorter length first")
        least = self.model.gpt.conditioning.mel.min_samples / self.model.input_rate
        check_field(self, "reference_seconds", shortest >= least, f"be at least {least:.3f}, for a mel frame")

    @property
    def reference_samples(self) -> tuple[int, int]:
        """Samples of the shortest and of the longest reference."""
        shortest, longest = (int(seconds * self.model.input_rate) for seconds in self.reference_seconds)
        return shortest, longest


class GPTState(eqx.Module):
    """Everything that a training step updates, and the rest of the network, which it does not."""

    counters: Counters
    gpt: Learner[GPT]
    rest: XTTS
    """The network without its language model: decoder, speaker encoder and statistics."""


class GPTTask(Task):
    """The training task of the language model of XTTS, for `jaxvoice.training.loop.fit`.

    Batches have the columns `audio`, `tokens` and `gain` (see `training_columns`). Their codes are computed in the step
    by a frozen DVAE, which is no part of the state, see `Task.constants`.

    **Arguments:**

    - `config`: networks, losses and optimiser.
    - `steps_per_epoch`: number of steps per epoch, for learning rates that decay after every epoch.
    - `codec`: the frozen DVAE with its statistics; it is saved with the model.
    - `codec_info`: metadata of the DVAE, such as its licence, that is saved with it.
    - `vocabulary`: the content of `vocab.json`, which is saved with the model; `None` saves none.
    - `voices`: the stored voices of the initial model, which are saved with the model.
    - `untrained`: the parts of the initial network whose weights are random besides the language model, such as
        `("hifigan_decoder",)`. Model folders contain these names, and a pipeline does not speak with them.
    - `validation`: evaluates the language model; without it, `validate` returns no metrics.
    - `inherited_info`: metadata of the initial model, such as its licence, that is copied into model folders.

    **Raises:** `ConfigError` for a DVAE of another configuration than that of the model.
    """

    family = FAMILY.name
    metrics = METRICS
    columns = COLUMNS

    def __init__(
        self,
        config: GPTTrainingConfig,
        *,
        steps_per_epoch: int,
        codec: CodecNetwork,
        codec_info: Mapping[str, Any] | None = None,
        vocabulary: bytes | None = None,
        voices: Mapping[str, StoredVoice] | None = None,
        untrained: tuple[str, ...] = (),
        validation: GPTValidation | None = None,
        inherited_info: Mapping[str, Any] | None = None,
    ):
        if codec.config.dvae != config.model.dvae:
            raise ConfigError(
                f"The configuration of the DVAE is {codec.config.dvae}; it should be model.dvae, which is "
                f"{config.model.dvae}. Pass the DVAE of the model."
            )
        check_voices(voices or {}, config.model, "voices")
        self.config, self.mel, self.steps_per_epoch = config, config.model.dvae.mel, steps_per_epoch
        self._codec, self._codec_info, self._vocabulary = codec, dict(codec_info or {}), vocabulary
        self._voices = dict(voices or {})
        # Steps need no vocoder of the DVAE.
        self.constants = eqx.tree_at(lambda c: c.vocoder, codec, None, is_leaf=lambda node: node is None)
        self.validation, self._inherited_info, self._untrained = validation, dict(inherited_info or {}), untrained

    def init(self, *, key: PRNGKeyArray) -> GPTState:
        """The initial state, with random networks and the statistics of the DVAE."""
        network = XTTS(self.config.model, key=key)
        return self.state_of(eqx.tree_at(lambda n: n.mel_stats, network, self.constants.mel_stats))

    def state_of(self, network: XTTS) -> GPTState:
        """The state before the first step, for a given network, such as a pretrained one."""
        config = self.config
        learner = Learner.create(
            network.gpt, config.optimizer, steps_per_epoch=self.steps_per_epoch, ema_decay=config.ema_decay
        )
        return GPTState(Counters.zero(), learner, eqx.tree_at(lambda n: n.gpt, network, None))

    def step(
        self,
        state: GPTState,
        batch: ColumnBatch,
        *,
        key: PRNGKeyArray,
        phase: int,
        constants: CodecNetwork | None = None,
    ) -> tuple[GPTState, dict[str, Float[Array, ""]]]:
        """One update of the language model; `constants` is the DVAE, by default that of the task."""
        config, learner = self.config, state.gpt
        codec = self.constants if constants is None else constants
        reference_key, dropout_key = jax.random.split(key)
        inputs = step_inputs(
            batch,
            config.model.gpt,
            codec,
            state.rest.mel_stats,
            config.masking,
            config.reference_samples,
            key=reference_key,
        )
        whole = totals(inputs.targets)

        def loss_of(params: GPT, rows: StepInputs, key: PRNGKeyArray) -> tuple[Float[Array, ""], Sums]:
            sums = losses(learner.combine(params), rows, whole, config.masking, precision=config.precision, key=key)
            return config.text_weight * sums.text + config.code_weight * sums.codes, sums

        loss, sums, gradient = accumulate_gradient(
            loss_of, learner.params, inputs, parts=config.accumulate, key=dropout_key
        )
        metrics = {"loss": loss, "code_loss": sums.codes, "text_loss": sums.text, "code_accuracy": sums.accuracy}
        new = GPTState(state.counters, learner.update(gradient), state.rest)
        return guarded(all_finite((loss, gradient)), new, state), metrics | learner.metrics(gradient)

    def audio_seconds(self, batch: ColumnBatch) -> float:
        """Seconds of audio in `batch`, without padding."""
        return float(batch.lengths["audio"].sum()) / self.config.model.input_rate

    def validate(self, state: GPTState) -> ValidationResult:
        """The metrics of `GPTValidation`."""
        if self.validation is None:
            return ValidationResult({})
        return self.validation(state.gpt.eval_model, self.constants, state.rest.mel_stats)

    def save_model(self, state: GPTState, folder: str | Path) -> None:
        """Write the whole network to a model folder, with the vocabulary, stored voices and the model folder `dvae`."""
        folder = Path(folder)
        network = eqx.tree_at(lambda n: n.gpt, state.rest, state.gpt.eval_model, is_leaf=lambda node: node is None)
        info = {**self._inherited_info, "step": int(state.counters.step)}
        if self._untrained:
            info[UNTRAINED] = list(self._untrained)
        FAMILY.save_network(folder, network, self.config.model, info=info)
        codec = self._codec
        xtts_dvae.FAMILY.save_network(folder / DVAE_FOLDER, codec, codec.config, info=self._codec_info)
        if self._vocabulary is not None:
            with atomic_write(folder / VOCABULARY_FILE) as file:
                file.write(self._vocabulary)
        if self._voices:
            write_voices(folder, self._voices)

    def describe(self) -> dict[str, Any]:
        """The training configuration and parameter counts."""
        state = eqx.filter_eval_shape(self.init, key=jax.random.key(0))
        counts = {
            "language model": count_parameters(state.gpt.model),
            "decoder and speaker encoder (not trained)": count_parameters(state.rest.hifigan_decoder),
            "DVAE (frozen)": count_parameters(self.constants),
        }
        return {"config": to_dict(self.config), "parameters": counts}
