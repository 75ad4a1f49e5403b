"""Inference with a phoneme-to-mel model for inputs of any length, in batches, with few compiled programs."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, Int64

from jaxvoice.dsp.framing import bucket_size, equal_size_batches
from jaxvoice.errors import CheckpointError, ConfigError, TextError, warn_caller
from jaxvoice.models.gaussian_tts.acoustic import AcousticModel, BatchNormStates
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.networks import DurationModel, GaussianTTS
from jaxvoice.models.gaussian_tts.statistics import denormalise_durations, denormalise_mel, round_durations
from jaxvoice.nn import freeze
from jaxvoice.text.phonemes import PAUSE

# Shorter inputs are padded to these lengths, which costs little time and reduces the number of compiled programs.
_FEWEST_PHONES, _FEWEST_FRAMES = 32, 128

_Size = TypeVar("_Size")
_Segment = tuple[int, int, int]
"""Index of an input, its first phoneme, and the end of the segment (exclusive)."""


class PhonemeInput(NamedTuple):
    """One input of the model."""

    codes: tuple[str, ...]
    """The phonemes."""
    ids: Int32[np.ndarray, " phones"]
    """Their ids in the model."""
    word_starts: Bool[np.ndarray, " phones"]
    """True for phonemes that begin a word."""
    durations: Int64[np.ndarray, " phones"] | None
    """Duration of each phoneme in frames; `None` if durations are predicted."""
    name: str = ""
    """Name of the input in errors and warnings."""


class AlignmentBlock(NamedTuple):
    """The block of an alignment matrix for one piece of an input. The matrix is zero outside its blocks."""

    frame: int
    """First frame."""
    phone: int
    """First phoneme."""
    weights: Float32[np.ndarray, "frames phones"]
    """Weight of each phoneme in each frame."""


class SynthesizedMel(NamedTuple):
    """The result for one input."""

    mel: Float32[np.ndarray, "mels frames"]
    """Log-mel spectrogram under the model's contract."""
    durations: Int64[np.ndarray, " phones"]
    """Duration of each phoneme in frames."""
    blocks: tuple[AlignmentBlock, ...]
    """The alignment, one block for each piece."""


@dataclass(frozen=True)
class Piece:
    """The phonemes of an input from `start` to `stop` (exclusive).

    If `starts_with_shared_pause` is true, the first phoneme is a pause that the previous piece also contains.
    """

    start: int
    stop: int
    starts_with_shared_pause: bool = False

    @property
    def phones(self) -> int:
        """Number of phonemes."""
        return self.stop - self.start


def split_at_pauses(
    frames: Int[np.ndarray, " phones"],
    pauses: Bool[np.ndarray, " phones"],
    word_starts: Bool[np.ndarray, " phones"],
    *,
    max_phones: int,
    max_frames: int,
) -> list[Piece]:
    """Split phonemes into pieces of at most `max_phones` phonemes and `max_frames` frames, each as long as possible.

        pau HH AH0 L OW1 pau W EU1 R L D pau
        |---- piece -------|
                         |----- piece ------|    both pieces contain the pause between them

    A piece ends with a pause, and the next piece starts with the same pause. A piece without a pause ends before a word
    if possible, otherwise at any phoneme, and does not overlap with the next piece.

    **Arguments:** `frames`, the duration of each phoneme, at most `max_frames`; `pauses`, true for pauses;
    `word_starts`, true for phonemes that begin a word.
    """
    count, times = len(frames), np.concatenate([[0], np.cumsum(frames)])
    pieces: list[Piece] = []
    start, shared = 0, False
    while True:
        reached = int(np.searchsorted(times, times[start] + max_frames, side="right")) - 1
        stop = min(count, start + max_phones, reached)
        if stop == count:
            return [*pieces, Piece(start, stop, shared)]
        pause = _last(pauses, start + 1, stop)
        if pause is not None:
            pieces.append(Piece(start, pause + 1, shared))
            start, shared = pause, True
            continue
        word = _last(word_starts, start + 1 + shared, stop + 1)
        stop = stop if word is None else word
        pieces.append(Piece(start, stop, shared))
        start, shared = stop, False


def _last(flags: Bool[np.ndarray, " phones"], start: int, stop: int) -> int | None:
    found = np.flatnonzero(flags[start:stop])
    return start + int(found[-1]) if found.size else None


@eqx.filter_jit
def encode(
    acoustic: AcousticModel,
    norms: BatchNormStates,
    durations: DurationModel | None,
    phonemes: Int[Array, "batch phones"],
    *,
    phone_count: Int[Array, " batch"],
) -> tuple[Float[Array, "batch phones dim"], Float[Array, "batch phones"] | None]:
    """Hidden states of `phonemes` (0 in padding), and the normalised log durations that `durations` predicts.

    **Raises:** `ShapeError` for more phonemes, padding included, than positions.
    """
    hidden, _ = acoustic.encode(phonemes, norms, phone_count=phone_count, inference=True)
    return hidden, None if durations is None else durations(hidden, phone_count=phone_count, inference=True)


@eqx.filter_jit
def decode(
    acoustic: AcousticModel,
    norms: BatchNormStates,
    hidden: Float[Array, "batch phones dim"],
    durations: Float[Array, "batch phones"],
    *,
    phone_count: Int[Array, " batch"],
    frame_count: Int[Array, " batch"],
    frames: int,
) -> tuple[Float[Array, "batch {frames} mels"], Float[Array, "batch {frames} phones"]]:
    """The normalised mel spectrogram of phonemes with `durations` in frames, and the upsampling weights.

    **Raises:** `ShapeError` for more frames, padding included, than positions.
    """
    counts = {"phone_count": phone_count, "frame_count": frame_count, "frames": frames}
    decoded = acoustic.decode(hidden, durations, norms, **counts, inference=True)
    return decoded.mel, decoded.weights


class AcousticInference:
    """Computes mel spectrograms and durations of phonemes.

    Inputs that exceed the learned positions of the model are split into pieces at pauses. The first half of the frames
    of such a pause comes from the piece before it, the rest from the piece after it. Pieces are padded to a few
    lengths, and pieces of equal padded length are computed as a batch. Padding and batching change the result by
    rounding errors only.

    **Arguments:** `model`, `norms` and `config`: the networks, the running statistics of their batch norms, and their
    configuration; `max_phones` and `max_frames`, the maximum size of a piece, by default the number of positions.

    **Raises:** `ConfigError` if `max_phones` or `max_frames` is below 1 or above the number of positions.
    """

    def __init__(
        self,
        model: GaussianTTS,
        norms: BatchNormStates,
        config: GaussianTTSConfig,
        *,
        max_phones: int | None = None,
        max_frames: int | None = None,
    ):
        self._model, self._norms, self._config = _freeze(model), norms, config
        self.max_phones = _limit("max_phones", max_phones, config.encoder.max_phones)
        self.max_frames = _limit("max_frames", max_frames, config.decoder.max_frames)

    def __call__(self, inputs: Sequence[PhonemeInput], *, speed: float = 1.0) -> list[SynthesizedMel]:
        """The result for each of `inputs`; `speed` divides predicted durations.

        **Raises:** `TextError` if the duration of a phoneme exceeds `max_frames`; `CheckpointError` if the model
        returns NaN or infinity.

        **Warns:** `JaxvoiceWarning` if a long input is split where it has no pause.
        """
        encoded: dict[_Segment, tuple[np.ndarray, np.ndarray]] = {}
        self._encode(inputs, _segments([self._pieces(item, item.durations) for item in inputs]), encoded)
        durations = [
            self._predicted(number, item, encoded, speed) if item.durations is None else item.durations
            for number, item in enumerate(inputs)
        ]
        pieces = [self._pieces(item, frames) for item, frames in zip(inputs, durations, strict=True)]
        self._encode(inputs, [segment for segment in _segments(pieces) if segment not in encoded], encoded)
        _warn_about_splits(inputs, pieces)
        positions = [_PiecePositions(frames, of_item) for frames, of_item in zip(durations, pieces, strict=True)]
        mels = [np.empty((self._config.mel.num_mels, int(frames.sum())), np.float32) for frames in durations]
        blocks: list[dict[int, AlignmentBlock]] = [{} for _ in inputs]
        # Each piece is copied into the result immediately, so that only one copy of a long result is in memory.
        for (number, start, stop), mel, weights in self._decode(_segments(pieces), encoded, durations):
            first, kept = positions[number].find(start, stop)
            mels[number][:, first : first + kept.stop - kept.start] = mel[:, kept]
            blocks[number][start] = AlignmentBlock(first, start, weights[kept].copy())
        return [
            SynthesizedMel(mel, frames, tuple(of_item[start] for start in sorted(of_item)))
            for mel, frames, of_item in zip(mels, durations, blocks, strict=True)
        ]

    def typical_sizes(self, max_frames: int) -> list[tuple[int, int]]:
        """The numbers of phonemes and frames for which to compile programs in advance.

        They cover speech of up to `max_frames` frames that is at most a third slower or faster than the corpus.
        """
        statistics, sizes = self._config.statistics, {}
        logs = statistics.duration_mean + statistics.duration_std**2 / 2  # mean of a log-normal distribution
        mean_duration = max(1.0, math.expm1(min(logs, 20.0)) * statistics.duration_scale)
        frames = 0
        while frames < min(max_frames, self.max_frames):
            frames = bucket_size(frames + 1, self.max_frames)
            for tempo in (0.75, 1.0, 4 / 3):
                phones = max(1, min(round(tempo * frames / mean_duration), frames, self.max_phones))
                sizes[self._phone_bucket((0, 0, phones)), frames] = phones, frames
        return list(sizes.values())

    def _pieces(self, item: PhonemeInput, durations: Int64[np.ndarray, " phones"] | None) -> list[Piece]:
        frames = np.zeros(len(item.codes), np.int64) if durations is None else durations
        longest = int(frames.argmax())
        if frames[longest] > self.max_frames:
            raise TextError(
                f"{_prefix(item)}The duration of {item.codes[longest]} (phoneme {longest + 1}) is {frames[longest]} "
                f"frames; it should be at most {self.max_frames}, the limit of the model. Pass a shorter duration or a "
                "higher speed."
            )
        pauses = np.array([code == PAUSE for code in item.codes])
        return split_at_pauses(frames, pauses, item.word_starts, max_phones=self.max_phones, max_frames=self.max_frames)

    def _encode(
        self,
        inputs: Sequence[PhonemeInput],
        segments: Sequence[_Segment],
        encoded: dict[_Segment, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        """Add the hidden states and normalised log durations of all `segments` to `encoded`."""
        sizes = {segment: self._phone_bucket(segment) for segment in segments}
        for size, batch in _batches(sizes, lambda size: self.max_phones // size):
            ids, counts = np.zeros((len(batch), size), np.int32), np.zeros(len(batch), np.int32)
            for row, (number, start, stop) in enumerate(batch):
                counts[row] = stop - start
                ids[row, : stop - start] = inputs[number].ids[start:stop]
            made = encode(
                self._model.acoustic,
                self._norms,
                self._model.durations,
                jnp.asarray(ids),
                phone_count=jnp.asarray(counts),
            )
            hidden, logs = map(np.asarray, made)
            for row, segment in enumerate(batch):
                # Copies, since a view would keep the whole padded batch in memory.
                encoded[segment] = hidden[row, : counts[row]].copy(), logs[row, : counts[row]].copy()

    def _predicted(
        self, number: int, item: PhonemeInput, encoded: Mapping[_Segment, tuple[np.ndarray, np.ndarray]], speed: float
    ) -> Int64[np.ndarray, " phones"]:
        logs = np.zeros(len(item.codes))
        for piece in self._pieces(item, None):
            first = piece.starts_with_shared_pause
            logs[piece.start + first : piece.stop] = encoded[number, piece.start, piece.stop][1][first:]
        frames = denormalise_durations(logs, self._config.statistics, speed=speed)
        if not np.isfinite(logs).all():
            raise CheckpointError("The model predicts durations that are NaN or infinite; its weights are damaged.")
        return round_durations(frames)

    def _decode(
        self,
        segments: Sequence[_Segment],
        encoded: Mapping[_Segment, tuple[np.ndarray, np.ndarray]],
        durations: Sequence[Int64[np.ndarray, " phones"]],
    ) -> Iterator[tuple[_Segment, np.ndarray, np.ndarray]]:
        """Yield each segment with its mel spectrogram (mels, frames) and its weights (frames, phones)."""
        frames = {(number, start, stop): int(durations[number][start:stop].sum()) for number, start, stop in segments}
        sizes = {
            segment: (self._phone_bucket(segment), bucket_size(max(frames[segment], _FEWEST_FRAMES), self.max_frames))
            for segment in segments
        }
        for (phones, length), batch in _batches(sizes, lambda size: self.max_frames // size[1]):
            hidden = np.zeros((len(batch), phones, self._config.dim), np.float32)
            lengths, counts = np.zeros((len(batch), phones), np.float32), np.zeros((2, len(batch)), np.int32)
            for row, (number, start, stop) in enumerate(batch):
                hidden[row, : stop - start] = encoded[number, start, stop][0]
                lengths[row, : stop - start] = durations[number][start:stop]
                counts[:, row] = stop - start, frames[number, start, stop]
            spans, phone_count, frame_count = map(jnp.asarray, (lengths, *counts))
            made = decode(
                self._model.acoustic,
                self._norms,
                jnp.asarray(hidden),
                spans,
                phone_count=phone_count,
                frame_count=frame_count,
                frames=length,
            )
            normalised, weights = map(np.asarray, made)
            for row, segment in enumerate(batch):
                # Checked before clipping, which would hide infinite values.
                if not np.isfinite(normalised[row, : frames[segment]]).all():
                    raise CheckpointError("The model returns mels with NaN or infinity; its weights are damaged.")
                mel = denormalise_mel(normalised[row, : frames[segment]], self._config.statistics, self._config.mel)
                yield segment, mel, weights[row, : frames[segment], : segment[2] - segment[1]]

    def _phone_bucket(self, segment: _Segment) -> int:
        return bucket_size(max(segment[2] - segment[1], _FEWEST_PHONES), self.max_phones)


_freeze = eqx.filter_jit(freeze)


def _limit(name: str, value: int | None, learned: int) -> int:
    if value is None:
        return learned
    if not 1 <= value <= learned:
        raise ConfigError(f"{name} is {value}; it should be from 1 to {learned}, the number of positions of the model.")
    return value


def _prefix(item: PhonemeInput) -> str:
    return f"{item.name}: " if item.name else ""


def _segments(pieces: Sequence[Sequence[Piece]]) -> list[_Segment]:
    return [(number, piece.start, piece.stop) for number, of_item in enumerate(pieces) for piece in of_item]


def _batches(
    sizes: Mapping[_Segment, _Size], batch_size_for: Callable[[_Size], int]
) -> Iterator[tuple[_Size, list[_Segment]]]:
    """Yield batches of segments of equal size."""
    # On a CPU, larger batches are hardly faster and need more memory.
    factor = 1 if jax.default_backend() == "cpu" else 16
    return equal_size_batches(sizes, lambda segment: sizes[segment], lambda size: factor * batch_size_for(size))


def _warn_about_splits(inputs: Sequence[PhonemeInput], pieces: Sequence[Sequence[Piece]]) -> None:
    for item, of_item in zip(inputs, pieces, strict=True):
        cuts = [piece.start for piece in of_item[1:] if not piece.starts_with_shared_pause]
        if cuts:
            raw = " ".join(item.codes[max(0, cuts[0] - 4) : cuts[0]])
            warn_caller(
                f"{_prefix(item)}The text is longer than the model supports and has too few pauses. It was split "
                f"between words at {len(cuts)} {'place' if len(cuts) == 1 else 'places'}, the first after phoneme "
                f"{cuts[0]} ({raw}). Add commas or full stops."
            )


class _PiecePositions:
    """The position of each piece in the result of its input. Each frame is taken from exactly one piece."""

    def __init__(self, durations: Int64[np.ndarray, " phones"], pieces: Sequence[Piece]):
        self._durations, self._starts = durations, np.concatenate([[0], np.cumsum(durations)])
        self._shared = {piece.start for piece in pieces if piece.starts_with_shared_pause}

    def find(self, start: int, stop: int) -> tuple[int, slice]:
        """The first frame of the result that comes from the piece `start` to `stop`, and the piece's frames to copy."""
        offset, last = int(self._starts[start]), int(self._starts[stop])
        first = offset + (_frames_before_split(self._durations[start]) if start in self._shared else 0)
        if stop - 1 in self._shared and stop - 1 != start:
            last -= int(self._durations[stop - 1]) - _frames_before_split(self._durations[stop - 1])
        return first, slice(first - offset, last - offset)


def _frames_before_split(pause: int | np.integer) -> int:
    """The number of frames of a shared pause that come from the piece before it."""
    return (int(pause) + 1) // 2
