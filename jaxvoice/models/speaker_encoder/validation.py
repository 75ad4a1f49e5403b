"""Validation of speaker encoders: the equal error rate of verifying held-out speakers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Bool, Float, Float32

from jaxvoice.data.store import Store
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.errors import DataError, ShapeError
from jaxvoice.models.speaker_encoder.config import SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.embedding import SpeakerNetwork
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import ValidationResult

METRICS = MappingProxyType(
    {
        "equal_error_rate": "share of wrong decisions at the threshold at which both kinds of errors are equally "
        "frequent, over all pairs of held-out recordings",
        "similarity_gap": "mean cosine of pairs of different speakers minus that of pairs of one speaker",
    }
)
"""Metrics that can select the best model; lower is better."""
_BATCH = 16


@dataclass(frozen=True)
class Verification:
    """The result of verifying speakers by a threshold on the cosine of two embeddings."""

    equal_error_rate: float
    """Share of wrong decisions at the threshold at which both kinds of errors are equally frequent, from 0 to 1."""
    threshold: float
    """This threshold."""
    same: Float32[np.ndarray, " pairs"]
    """Cosines of pairs of recordings of one speaker."""
    different: Float32[np.ndarray, " pairs"]
    """Cosines of pairs of recordings of different speakers."""


def equal_error_rate(same: Float[np.ndarray, " n"], different: Float[np.ndarray, " m"]) -> tuple[float, float]:
    """The equal error rate of deciding by a threshold that a pair is of one speaker, and the threshold.

    Between two thresholds at which the larger of both error rates changes, rates are interpolated linearly.

    **Arguments:** scores of pairs of one speaker, and of pairs of different speakers; higher means more similar.

    **Raises:** `ShapeError` if there are no pairs of one kind.
    """
    same, different = np.sort(np.asarray(same, np.float64)), np.sort(np.asarray(different, np.float64))
    if not same.size or not different.size:
        raise ShapeError(
            f"There are {same.size} pairs of one speaker and {different.size} of different speakers; there should be "
            "pairs of both kinds."
        )
    thresholds = np.unique(np.concatenate([same, different]))
    thresholds = np.append(thresholds, np.nextafter(thresholds[-1], np.inf))
    missed = np.searchsorted(same, thresholds, side="left") / same.size
    accepted = 1 - np.searchsorted(different, thresholds, side="left") / different.size
    # `missed - accepted` rises from -1 to 1 over the thresholds.
    after = int(np.argmax(missed >= accepted))
    if missed[after] == accepted[after] or after == 0:
        return float(max(missed[after], accepted[after])), float(thresholds[after])
    before = after - 1
    gaps = accepted[before] - missed[before], missed[after] - accepted[after]
    share = gaps[0] / (gaps[0] + gaps[1])
    rate = missed[before] + share * (missed[after] - missed[before])
    return float(rate), float(thresholds[before] + share * (thresholds[after] - thresholds[before]))


def verify(embeddings: Float[np.ndarray, "n dim"], speakers: Sequence[str]) -> Verification:
    """Verify all pairs of embeddings of the recordings of these `speakers`.

    **Raises:** `DataError` if no speaker has two recordings, or there is one speaker.
    """
    x = np.asarray(embeddings, np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosines, equal = _pairs(x @ x.T, np.asarray(speakers))
    if not equal.any() or equal.all():
        raise DataError(
            f"There are {int(equal.sum())} pairs of recordings of one speaker and {int((~equal).sum())} of different "
            "speakers; there should be both. Use at least two speakers, and two recordings of one of them."
        )
    rate, threshold = equal_error_rate(cosines[equal], cosines[~equal])
    return Verification(rate, threshold, cosines[equal].astype(np.float32), cosines[~equal].astype(np.float32))


def _pairs(
    cosines: Float[np.ndarray, "n n"], speakers: np.ndarray
) -> tuple[Float[np.ndarray, " pairs"], Bool[np.ndarray, " pairs"]]:
    """The cosine of each pair of recordings, and whether both have one speaker."""
    first, second = np.triu_indices(len(speakers), 1)
    return cosines[first, second], speakers[first] == speakers[second]


def error_rate_interval(
    embeddings: Float[np.ndarray, "n dim"], speakers: Sequence[str], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the equal error rate over speakers, by bootstrap.

    Speakers are drawn with repetitions, since pairs that share a speaker are not independent. Pairs of a speaker with
    its own copy are left out.

    **Raises:** `DataError` as `verify`.
    """
    verify(embeddings, speakers)
    x = np.asarray(embeddings, np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    cosines, names = x @ x.T, np.asarray(speakers)
    rows = [np.flatnonzero(names == name) for name in sorted(set(speakers))]
    same = [cosines[np.ix_(own, own)][np.triu_indices(len(own), 1)] for own in rows]
    different = {(a, b): cosines[np.ix_(rows[a], rows[b])].ravel() for a, b in combinations(range(len(rows)), 2)}
    random, rates = np.random.default_rng(seed), []
    while len(rates) < draws:
        drawn = random.integers(0, len(rows), len(rows))
        own = np.concatenate([same[speaker] for speaker in drawn])
        others = [different[min(a, b), max(a, b)] for a, b in combinations(drawn.tolist(), 2) if a != b]
        if own.size and others:
            rates.append(equal_error_rate(own, np.concatenate(others))[0])
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)


class Validation:
    """Evaluates an encoder on held-out recordings of speakers that are not trained on.

    Recordings are embedded by the middle of each, at most `seconds` long. Shorter ones are repeated, so that one
    program is compiled.

    **Arguments:** `store`, the recordings with the columns `audio` and `gain`; `config` of the encoder; `seconds`.

    **Raises:** `DataError` for recordings without a speaker, or speakers without pairs.
    """

    def __init__(self, store: Store, config: SpeakerEncoderConfig, *, seconds: float = 2.5):
        self.held_out = describe_held_out(store)
        rows_of_speakers(store.corpus)
        self._speakers = [utterance.speaker for utterance in store.corpus.utterances]
        samples = round(seconds * config.sample_rate)
        self._audio = np.stack([_middle(store.waveform(row), samples) for row in range(len(store))])
        verify(np.eye(len(store)), self._speakers)
        self._embed = eqx.filter_jit(lambda network, audio: network(audio))

    def __call__(self, network: SpeakerNetwork) -> ValidationResult:
        """The metrics of an encoder that contains its running statistics."""
        found = verify(self.embeddings(network), self._speakers)
        gap = float(found.different.mean() - found.same.mean())
        return ValidationResult({"equal_error_rate": found.equal_error_rate, "similarity_gap": gap})

    def embeddings(self, network: SpeakerNetwork) -> Float32[np.ndarray, "n dim"]:
        """The embeddings of the held-out recordings."""
        size = min(_BATCH, len(self._audio))
        parts = []
        for start in range(0, len(self._audio), size):
            rows = self._audio[start : start + size]
            padded = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])
            parts.append(np.asarray(self._embed(network, jnp.asarray(padded)))[: len(rows)])
        return np.concatenate(parts)

    def interval(self, network: SpeakerNetwork) -> tuple[float, float]:
        """The 95 % interval of the equal error rate over speakers."""
        return error_rate_interval(self.embeddings(network), self._speakers)


def _middle(audio: Float32[np.ndarray, " samples"], samples: int) -> Float32[np.ndarray, " {samples}"]:
    """`samples` of the middle of `audio`, which is repeated if it is shorter."""
    if len(audio) < samples:
        audio = np.tile(audio, -(-samples // len(audio)))
    start = (len(audio) - samples) // 2
    return audio[start : start + samples]
