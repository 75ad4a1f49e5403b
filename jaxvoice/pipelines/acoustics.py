"""Running a phoneme-to-mel model over lines of any length, many at once, with few compiled programs."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Bool, Float32, Int32, Int64

from jaxvoice.errors import CheckpointError, ConfigError, TextError
from jaxvoice.models.gaussian_tts.acoustic import BatchNormStates, GaussianTTS
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.durations import from_normalised, whole_frames
from jaxvoice.models.gaussian_tts.inference import decode, encode
from jaxvoice.models.gaussian_tts.scaling import to_mel
from jaxvoice.nn import freeze
from jaxvoice.pipelines.checks import warn_caller
from jaxvoice.pipelines.splitting import Piece, split_at_pauses
from jaxvoice.pipelines.windows import bucket
from jaxvoice.text.phonemes import PAUSE

# Shorter inputs are padded to these: they cost little, and need no programs of their own.
_FEWEST_PHONES, _FEWEST_FRAMES = 32, 128

Item = TypeVar("Item")
Place = tuple[int, int, int]
"""Number of a line, and the phonemes between which a piece of it lies."""


class Line(NamedTuple):
    """What is to be said."""

    codes: tuple[str, ...]
    """The phonemes."""
    ids: Int32[np.ndarray, " phones"]
    """Their numbers in the model."""
    word_starts: Bool[np.ndarray, " phones"]
    """With which of them a word begins."""
    durations: Int64[np.ndarray, " phones"] | None
    """How many frames each lasts, or None to have that predicted."""
    name: str = ""
    """What messages call it, where it is one of several."""


class Block(NamedTuple):
    """The part of an alignment that is not zero for one piece of a line."""

    frame: int
    """First frame."""
    phone: int
    """First phoneme."""
    weights: Float32[np.ndarray, "frames phones"]
    """How much of each phoneme is in each frame."""


class Spoken(NamedTuple):
    """What the model makes of a line."""

    mel: Float32[np.ndarray, "mels frames"]
    """Log-mel spectrogram of the model's contract."""
    durations: Int64[np.ndarray, " phones"]
    """How many frames each phoneme lasts."""
    blocks: tuple[Block, ...]
    """The alignment, piece by piece."""


class Acoustics:
    """Phonemes to mel spectrograms and durations.

    Lines that are longer than the positions that the model has learned are cut at pauses; of a pause between two pieces
    the first half of the frames comes from the one before it and the rest from the one after it. Pieces are padded to a
    few lengths and those of one length run together; neither changes the result by more than rounding.

    **Arguments:** the networks, the running statistics of their batch norms, and their configuration; `max_phones` and
    `max_frames`, the longest piece where it should be shorter than the positions.

    **Raises:** `ConfigError` for pieces longer than the positions, or shorter than a phoneme.
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
        self._model, self._norms, self._config = _frozen(model), norms, config
        self.max_phones = _limit("max_phones", max_phones, config.encoder.max_phones)
        self.max_frames = _limit("max_frames", max_frames, config.decoder.max_frames)

    def __call__(self, lines: Sequence[Line], *, speed: float = 1.0) -> list[Spoken]:
        """What is said, for each of `lines`; `speed` divides the durations that are predicted.

        **Raises:** `TextError` if a phoneme lasts longer than a piece can be; `CheckpointError` if the model makes no
        numbers. Warns with `JaxvoiceWarning` where a long line has no pause to be cut at.
        """
        coded: dict[Place, tuple[np.ndarray, np.ndarray]] = {}
        self._encode(lines, _places([self._pieces(line, line.durations) for line in lines]), coded)
        durations = [
            self._predicted(number, line, coded, speed) if line.durations is None else line.durations
            for number, line in enumerate(lines)
        ]
        pieces = [self._pieces(line, frames) for line, frames in zip(lines, durations, strict=True)]
        self._encode(lines, [place for place in _places(pieces) if place not in coded], coded)
        _warn_of_cuts(lines, pieces)
        joints = [_Joint(frames, of_line) for frames, of_line in zip(durations, pieces, strict=True)]
        mels = [np.empty((self._config.mel.num_mels, int(frames.sum())), np.float32) for frames in durations]
        blocks: list[dict[int, Block]] = [{} for _ in lines]
        # Each piece is put in place as soon as it is made: of an hour of speech there is room for one copy.
        for (number, start, stop), mel, weights in self._decode(_places(pieces), coded, durations):
            first, kept = joints[number].place(start, stop)
            mels[number][:, first : first + kept.stop - kept.start] = mel[:, kept]
            blocks[number][start] = Block(first, start, weights[kept].copy())
        return [
            Spoken(mel, frames, tuple(of_line[start] for start in sorted(of_line)))
            for mel, frames, of_line in zip(mels, durations, blocks, strict=True)
        ]

    def usual_sizes(self, most_frames: int) -> list[tuple[int, int]]:
        """Numbers of phonemes and frames, one pair for each program that speech of up to `most_frames` frames runs
        through if it is at most a third slower or faster than the corpus."""
        statistics, sizes = self._config.statistics, {}
        logs = statistics.duration_mean + statistics.duration_std**2 / 2  # the mean of what has normal logarithms
        usual = max(1.0, math.expm1(min(logs, 20.0)) * statistics.duration_scale)
        frames = 0
        while frames < min(most_frames, self.max_frames):
            frames = bucket(frames + 1, self.max_frames)
            for tempo in (0.75, 1.0, 4 / 3):
                phones = max(1, min(round(tempo * frames / usual), frames, self.max_phones))
                sizes[self._phone_bucket((0, 0, phones)), frames] = phones, frames
        return list(sizes.values())

    def _pieces(self, line: Line, durations: Int64[np.ndarray, " phones"] | None) -> list[Piece]:
        frames = np.zeros(len(line.codes), np.int64) if durations is None else durations
        longest = int(frames.argmax())
        if frames[longest] > self.max_frames:
            raise TextError(
                f"{_called(line)}{line.codes[longest]} (phoneme {longest + 1}) is to last {frames[longest]} frames, "
                f"and the model says at most {self.max_frames} at once; give a shorter duration or a higher speed."
            )
        pauses = np.array([code == PAUSE for code in line.codes])
        return split_at_pauses(
            frames, pauses, line.word_starts, most_phones=self.max_phones, most_frames=self.max_frames
        )

    def _encode(
        self, lines: Sequence[Line], places: Sequence[Place], coded: dict[Place, tuple[np.ndarray, np.ndarray]]
    ) -> None:
        """Add hidden states and normalised log durations of each of `places` to `coded`."""
        sizes = {place: self._phone_bucket(place) for place in places}
        for size, batch in _batches(sizes, lambda size: self.max_phones // size):
            ids, counts = np.zeros((len(batch), size), np.int32), np.zeros(len(batch), np.int32)
            for row, (number, start, stop) in enumerate(batch):
                counts[row] = stop - start
                ids[row, : stop - start] = lines[number].ids[start:stop]
            made = encode(
                self._model.acoustic,
                self._norms,
                self._model.durations,
                jnp.asarray(ids),
                phone_count=jnp.asarray(counts),
            )
            hidden, logs = map(np.asarray, made)
            for row, place in enumerate(batch):
                # Copies, since a view would keep the padding of the whole batch.
                coded[place] = hidden[row, : counts[row]].copy(), logs[row, : counts[row]].copy()

    def _predicted(
        self, number: int, line: Line, coded: Mapping[Place, tuple[np.ndarray, np.ndarray]], speed: float
    ) -> Int64[np.ndarray, " phones"]:
        logs = np.zeros(len(line.codes))
        for piece in self._pieces(line, None):
            logs[piece.start + piece.shares : piece.stop] = coded[number, piece.start, piece.stop][1][piece.shares :]
        frames = from_normalised(logs, self._config.statistics, speed=speed)
        if not np.isfinite(logs).all():
            raise CheckpointError("The model predicts durations that are no numbers; its weights are damaged.")
        return whole_frames(frames)

    def _decode(
        self,
        places: Sequence[Place],
        coded: Mapping[Place, tuple[np.ndarray, np.ndarray]],
        durations: Sequence[Int64[np.ndarray, " phones"]],
    ) -> Iterator[tuple[Place, np.ndarray, np.ndarray]]:
        """Each of `places`, its mel spectrogram (mels, frames) and its weights (frames, phones)."""
        frames = {(number, start, stop): int(durations[number][start:stop].sum()) for number, start, stop in places}
        sizes = {
            place: (self._phone_bucket(place), bucket(max(frames[place], _FEWEST_FRAMES), self.max_frames))
            for place in places
        }
        for (phones, length), batch in _batches(sizes, lambda size: self.max_frames // size[1]):
            hidden = np.zeros((len(batch), phones, self._config.dim), np.float32)
            lengths, counts = np.zeros((len(batch), phones), np.float32), np.zeros((2, len(batch)), np.int32)
            for row, (number, start, stop) in enumerate(batch):
                hidden[row, : stop - start] = coded[number, start, stop][0]
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
            for row, place in enumerate(batch):
                # Before what mels can be limits it: infinity would become a mel that looks like any other.
                if not np.isfinite(normalised[row, : frames[place]]).all():
                    raise CheckpointError("The model makes mels that hold NaN or infinity; its weights are damaged.")
                mel = to_mel(normalised[row, : frames[place]], self._config.statistics, self._config.mel)
                yield place, mel, weights[row, : frames[place], : place[2] - place[1]]

    def _phone_bucket(self, place: Place) -> int:
        return bucket(max(place[2] - place[1], _FEWEST_PHONES), self.max_phones)


_frozen = eqx.filter_jit(freeze)


def _limit(name: str, wanted: int | None, learned: int) -> int:
    if wanted is None:
        return learned
    if not 1 <= wanted <= learned:
        raise ConfigError(f"{name} is {wanted}; give from 1 to the {learned} positions that the model has learned.")
    return wanted


def _called(line: Line) -> str:
    return f"{line.name}: " if line.name else ""


def _places(pieces: Sequence[Sequence[Piece]]) -> list[Place]:
    return [(number, piece.start, piece.stop) for number, of_line in enumerate(pieces) for piece in of_line]


def _batches(sizes: Mapping[Place, Item], room: Callable[[Item], int]) -> Iterator[tuple[Item, list[Place]]]:
    """Places of one size together, as many as are a power of two, so that few programs serve."""
    groups: dict[Item, list[Place]] = defaultdict(list)
    for place, size in sizes.items():
        groups[size].append(place)
    # A CPU gains little from more at a time, and its memory is everybody's.
    factor = 1 if jax.default_backend() == "cpu" else 16
    for size, group in groups.items():
        while group:
            most = max(1, min(len(group), factor * room(size)))
            batch = group[: 1 << (most.bit_length() - 1)]
            del group[: len(batch)]
            yield size, batch


def _warn_of_cuts(lines: Sequence[Line], pieces: Sequence[Sequence[Piece]]) -> None:
    for line, of_line in zip(lines, pieces, strict=True):
        cuts = [piece.start for piece in of_line[1:] if not piece.shares]
        if cuts:
            raw = " ".join(line.codes[max(0, cuts[0] - 4) : cuts[0]])
            warn_caller(
                f"{_called(line)}The text is too long to be said at once and has no pause where one is needed; it is "
                f"cut without one {len(cuts)} times, first after phoneme {cuts[0]} ({raw}). Put in commas or full "
                "stops."
            )


class _Joint:
    """Where the pieces of a line go in it, so that every frame is there once."""

    def __init__(self, durations: Int64[np.ndarray, " phones"], pieces: Sequence[Piece]):
        self._durations, self._starts = durations, np.concatenate([[0], np.cumsum(durations)])
        self._shared = {piece.start for piece in pieces if piece.shares}

    def place(self, start: int, stop: int) -> tuple[int, slice]:
        """The first frame of the line that the piece of phonemes `start` to `stop` gives, and which of its own."""
        offset, last = int(self._starts[start]), int(self._starts[stop])
        first = offset + (_before_the_cut(self._durations[start]) if start in self._shared else 0)
        if stop - 1 in self._shared and stop - 1 != start:
            last -= int(self._durations[stop - 1]) - _before_the_cut(self._durations[stop - 1])
        return first, slice(first - offset, last - offset)


def _before_the_cut(pause: int | np.integer) -> int:
    """Frames of a pause between two pieces that the first of them gives."""
    return (int(pause) + 1) // 2
