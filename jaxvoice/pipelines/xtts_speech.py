"""Speech of XTTS: its result, and the pieces of texts that the networks speak together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float32, Int32

from jaxvoice.errors import CheckpointError, warn_caller
from jaxvoice.models.xtts.config import SamplingConfig
from jaxvoice.models.xtts.decoder import HiFiDecoder
from jaxvoice.models.xtts.inference import CODES_PER_CALL, FIRST_CODES, generate_in_parts, text_widths
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.models.xtts.streaming import DecoderStream
from jaxvoice.nn import freeze
from jaxvoice.pipelines.vocoder import Waveform
from jaxvoice.pipelines.xtts_voice import XTTSVoice

_WARM_UP = 24  # latents of which the decoder decodes a block of each length


@dataclass(frozen=True, eq=False)
class SpokenPiece:
    """A piece of a text that was spoken at once."""

    text: str
    """The text of the piece."""
    tokens: tuple[int, ...]
    """Its token ids, without start and stop."""
    codes: Int32[np.ndarray, " codes"]
    """The codes of its speech, without the stop."""
    latents: Float32[np.ndarray, "vectors channels"]
    """The latents that were decoded: one for each code, and one for the stop if there is one."""
    samples: int
    """The number of samples of its audio."""
    stopped: bool
    """Whether the stop was generated; otherwise, the speech ends at the largest number of codes."""


@dataclass(frozen=True, eq=False)
class XTTSSpeech:
    """Speech of an XTTS, and its intermediate results."""

    audio: Waveform
    """Waveform within [-1, 1]."""
    sample_rate: int
    """Its sample rate in Hz."""
    pieces: tuple[SpokenPiece, ...]
    """The pieces of the text, whose audio follows one another."""

    def __repr__(self) -> str:
        seconds, codes = len(self.audio) / self.sample_rate, len(self.codes)
        pieces = "1 piece" if len(self.pieces) == 1 else f"{len(self.pieces)} pieces"
        return f"XTTSSpeech({seconds:.2f} s at {self.sample_rate} Hz, {codes} codes in {pieces})"

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ids of all pieces."""
        return tuple(token for piece in self.pieces for token in piece.tokens)

    @property
    def codes(self) -> Int32[np.ndarray, " codes"]:
        """The codes of all pieces."""
        return np.concatenate([piece.codes for piece in self.pieces])

    @property
    def latents(self) -> Float32[np.ndarray, "vectors channels"]:
        """The latents of all pieces."""
        return np.concatenate([piece.latents for piece in self.pieces])


class SpeechJob(NamedTuple):
    """A piece of a text to speak."""

    text: str
    tokens: list[int]
    voice: XTTSVoice
    number: int
    """The number of the piece in its text."""


class SpeechSettings(NamedTuple):
    """How pieces are spoken."""

    sampling: SamplingConfig
    max_codes: int
    speed: float
    seed: int


class SpeechEngine:
    """Speaks pieces of texts with the networks of an XTTS, several at once."""

    def __init__(self, network: XTTS, batch_size: int):
        """**Arguments:** `batch_size`, the most pieces that are spoken together."""
        self._network, self._batch_size = network, batch_size

    @cached_property
    def _decoder(self) -> HiFiDecoder:
        """The decoder with folded weights."""
        decoder = self._network.hifigan_decoder
        frozen = freeze(decoder.waveform_decoder, winograd=False)
        return eqx.tree_at(lambda one: one.waveform_decoder, decoder, frozen)

    def warm_up(self, rows: int) -> None:
        """Compile the programs for `rows` texts of all lengths, and those of the decoder."""
        gpt, config = self._network.gpt, self._network.config
        vectors = np.zeros((rows, max(1, config.gpt.conditioning.latents), config.gpt.channels), np.float32)
        keys = _piece_keys(0, [0] * rows)
        for width in text_widths(gpt):
            texts = [[0] * (width - 2)] * rows
            for first in (FIRST_CODES, CODES_PER_CALL) if rows == 1 else (CODES_PER_CALL,):
                next(generate_in_parts(gpt, list(vectors), texts, config.sampling, keys, first=first))
        stream = DecoderStream(self._decoder, np.zeros(config.speaker_encoder.dim, np.float32))
        # More than a block of each length.
        stream.push(np.zeros((_WARM_UP, config.gpt.channels), np.float32))
        stream.finish()

    def stream(self, jobs: Sequence[SpeechJob], settings: SpeechSettings) -> Iterator[Waveform]:
        """Yield the audio of pieces, one after another, as soon as it is known."""
        for job in jobs:
            for audio in self._parts([job], settings, first=FIRST_CODES):
                if len(audio[0]):
                    yield audio[0]

    def speak(self, jobs: Sequence[SpeechJob], settings: SpeechSettings) -> list[tuple[Waveform, SpokenPiece]]:
        """The speech of each piece. Pieces of similar lengths are spoken together."""
        results: dict[int, tuple[Waveform, SpokenPiece]] = {}
        order = sorted(range(len(jobs)), key=lambda i: (len(jobs[i].voice.conditioning), len(jobs[i].tokens)))
        for start in range(0, len(order), self._batch_size):
            group = order[start : start + self._batch_size]
            pieces: list[SpokenPiece] = []
            blocks = list(self._parts([jobs[i] for i in group], settings, pieces))
            for row, (i, piece) in enumerate(zip(group, pieces, strict=True)):
                results[i] = np.concatenate([block[row] for block in blocks]), piece
        return [results[i] for i in range(len(jobs))]

    def _parts(
        self,
        jobs: Sequence[SpeechJob],
        settings: SpeechSettings,
        pieces: list[SpokenPiece] | None = None,
        *,
        first: int = CODES_PER_CALL,
    ) -> Iterator[list[Waveform]]:
        """Yield the next audio of each piece, after `first` codes; at the end, add the pieces to `pieces`."""
        decoder = self._decoder
        streams = [DecoderStream(decoder, job.voice.speaker, speed=settings.speed) for job in jobs]
        codes: list[list[np.ndarray]] = [[] for _ in jobs]
        latents: list[list[np.ndarray]] = [[] for _ in jobs]
        counts, stopped = [0] * len(jobs), [False] * len(jobs)
        vectors = [job.voice.conditioning for job in jobs]
        texts, keys = [job.tokens for job in jobs], _piece_keys(settings.seed, [job.number for job in jobs])
        for parts in generate_in_parts(
            self._network.gpt, vectors, texts, settings.sampling, keys, max_codes=settings.max_codes, first=first
        ):
            audio = []
            for row, part in enumerate(parts):
                codes[row].append(part.codes)
                latents[row].append(part.latents)
                audio.append(_checked(streams[row].push(part.latents)))
                stopped[row] |= part.stopped
            counts = [count + len(one) for count, one in zip(counts, audio, strict=True)]
            yield audio
        audio = [_checked(stream.finish()) for stream in streams]
        counts = [count + len(one) for count, one in zip(counts, audio, strict=True)]
        for job, ended in zip(jobs, stopped, strict=True):
            if not ended:
                warn_caller(
                    f"The speech of {job.text[:40]!r} was ended after {settings.max_codes} codes, before the model "
                    "stopped, so its end may be missing. Use another seed, or divide the text into shorter sentences."
                )
        if pieces is not None:
            pieces += [
                SpokenPiece(
                    job.text,
                    tuple(job.tokens),
                    np.concatenate(codes[row]),
                    np.concatenate(latents[row]),
                    counts[row],
                    stopped[row],
                )
                for row, job in enumerate(jobs)
            ]
        yield audio


def joined_speech(spoken: Sequence[tuple[Waveform, SpokenPiece]], sample_rate: int) -> XTTSSpeech:
    """The speech of the pieces of a text."""
    audio = np.concatenate([samples for samples, _ in spoken])
    return XTTSSpeech(audio, sample_rate, tuple(piece for _, piece in spoken))


def _checked(audio: Waveform) -> Waveform:
    if not np.isfinite(audio).all():
        raise CheckpointError(
            "The decoder returned NaN or infinity; its weights are probably damaged. Import it again."
        )
    return audio


def _piece_keys(seed: int, numbers: Sequence[int]) -> Any:
    """A key for each piece, which depends on the seed and the number of the piece in its text."""
    high, low = divmod(seed % 2**64, 2**32)
    key = jax.random.fold_in(jax.random.key(np.uint32(low)), np.uint32(high))
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(np.asarray(numbers, np.uint32))
