"""Content features of recordings and phoneme recognition, with a Conformer."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32

from jaxvoice.dsp.framing import Window, bucket_size, equal_size_batches, plan_windows
from jaxvoice.dsp.nemo_mel import bucketed_nemo_log_mel
from jaxvoice.dsp.resampling import resample
from jaxvoice.errors import AudioError, CheckpointError, ConfigError
from jaxvoice.models.conformer.config import OVERLAP, PIECE, SUBSAMPLING, ConformerConfig
from jaxvoice.models.conformer.family import FAMILY
from jaxvoice.models.conformer.network import Conformer, ConformerOutput, fold_batch_norm, mask_padding
from jaxvoice.models.conformer.weights import content_identity
from jaxvoice.pipelines.argument_checks import validate_audio, window_frames
from jaxvoice.pipelines.sources import find_model_folder, print_notices
from jaxvoice.weights.array_names import named_arrays

_SMALLEST = 64  # mel frames of the shortest compiled program
_BATCH_FRAMES = 4096  # mel frames of a batch

Features = Float32[np.ndarray, "channels frames"]


class ContentEncoder:
    """A Conformer encoder for numpy arrays of any length: audio to content features at 25 Hz.

    Recordings are padded to few lengths, so that few programs are compiled. Padding and batches do not change the
    result. Frame t of the features belongs to the time `t * frame_seconds`.

    Recordings of at most `piece` seconds are encoded whole. The time and memory of attention grow with the square of
    the length, so longer ones are encoded in windows of `piece` seconds, of which `overlap` seconds at each inner end
    are discarded. Their features differ from those of the whole recording; see `docs/voice_conversion.md`.

    **Attributes:** `network` (with its running statistics), `config`, `piece` and `overlap` in seconds.
    """

    def __init__(self, network: Conformer, config: ConformerConfig, *, piece: float = PIECE, overlap: float = OVERLAP):
        """**Arguments:** `network`, which contains its running statistics, and its configuration; `piece` and `overlap`
        in seconds.

        **Raises:** `ConfigError` for a network of another configuration, or without running statistics, or if `piece`
        is not longer than twice `overlap`.
        """
        if network.config != config:
            raise ConfigError("The network has another configuration than config; pass the configuration it has.")
        self.network, self.config = network, config
        self.piece, self.overlap = piece, overlap
        self._windows = window_frames(piece, overlap, config.frame_seconds)
        self._frozen = fold_batch_norm(mask_padding(network))

    @classmethod
    def load(cls, path: str | Path, *, piece: float = PIECE, overlap: float = OVERLAP) -> "ContentEncoder":
        """Load the encoder at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        The other arguments are those of the class. The licence of the weights is printed to stderr if it is known.

        **Raises:** `CheckpointError` or `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id
        without the extra `hub`.
        """
        folder = find_model_folder(path)
        network, config = FAMILY.load_network(folder)
        print_notices(folder, FAMILY)
        return cls(network, config, piece=piece, overlap=overlap)

    def __repr__(self) -> str:
        return f"ContentEncoder({self.sample_rate} Hz, {self.channels} channels, {self.config.layers} layers)"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.config.mel.sample_rate

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return self.config.dim

    @property
    def frame_seconds(self) -> float:
        """Time between frames of the features in seconds."""
        return self.config.frame_seconds

    @cached_property
    def identity(self) -> str:
        """A SHA-256 that identifies the features, to store with cached ones; see `content_identity`."""
        return content_identity(named_arrays(self.network), self.config)

    @overload
    def encode(self, audio: Float[Any, " samples"], sample_rate: float | None = None) -> Features: ...

    @overload
    def encode(self, audio: list[Any] | tuple[Any, ...], sample_rate: float | None = None) -> list[Features]: ...

    def encode(self, audio: Any, sample_rate: float | None = None) -> Any:
        """Content features `(channels, frames)` float32 of a recording, or a list of them for a list of recordings.

        **Arguments:** `audio` `(samples,)`, one channel of floats with full scale at 1; or a list of these, which are
        computed in batches. `sample_rate` in Hz, from which the audio is resampled; by default `self.sample_rate`.

        **Raises:** `AudioError` for several channels, integers, NaN, a rate that is not a positive whole number, or
        audio too short for two mel frames; `CheckpointError` if the encoder returns NaN or infinity.
        """
        if isinstance(audio, list | tuple):
            return [output.hidden.T.copy() for output in self._run(audio, sample_rate)]
        return self._run([audio], sample_rate)[0].hidden.T.copy()

    @overload
    def recognise(self, audio: Float[Any, " samples"], sample_rate: float | None = None) -> tuple[str, ...]: ...

    @overload
    def recognise(
        self, audio: list[Any] | tuple[Any, ...], sample_rate: float | None = None
    ) -> list[tuple[str, ...]]: ...

    def recognise(self, audio: Any, sample_rate: float | None = None) -> Any:
        """The most probable symbols of a recording, such as phonemes; a list of them for a list of recordings.

        The most probable symbol of each frame is taken, repeats are merged, and blanks are removed.

        Arguments and errors are those of `encode`; `ConfigError` for a model without a recogniser, or whose symbols are
        unknown.
        """
        if not self.config.symbols:
            reason = "the model has no recogniser" if self.config.classes is None else "its symbols are unknown"
            raise ConfigError(f"{self!r} cannot recognise symbols, because {reason}. Load a model that was trained to.")
        batch = audio if isinstance(audio, list | tuple) else [audio]
        found = [self._symbols(output.logits) for output in self._run(batch, sample_rate)]
        return found if isinstance(audio, list | tuple) else found[0]

    def _symbols(self, logits: Float32[np.ndarray, "frames classes"]) -> tuple[str, ...]:
        classes = merge_repeats(logits.argmax(-1).astype(np.int32))
        return tuple(self.config.symbols[number] for number in classes if number != self.config.blank)

    def _run(self, recordings: Sequence[Any], sample_rate: float | None) -> list[Any]:
        """The outputs of the network, without padding, as numpy arrays."""
        mels = []
        for number, audio in enumerate(recordings, 1):
            try:
                mels.append(self._log_mel(audio, sample_rate))
            except AudioError as error:
                if len(recordings) == 1:
                    raise
                raise AudioError(f"Recording {number}: {error}") from None
        piece, overlap = self._windows
        windows = [
            (number, window)
            for number, mel in enumerate(mels)
            for window in plan_windows(-(-mel.shape[1] // SUBSAMPLING), piece, (overlap, overlap))
        ]

        def part(number: int, window: Window) -> Float32[np.ndarray, "mels frames"]:
            return mels[number][:, SUBSAMPLING * window.start : SUBSAMPLING * window.stop]

        def size_of(item: tuple[int, Window]) -> int:
            return max(_SMALLEST, bucket_size(part(*item).shape[1], SUBSAMPLING * piece))

        kept: dict[tuple[int, int], ConformerOutput] = {}
        for size, batch in equal_size_batches(windows, size_of, lambda size: _BATCH_FRAMES // size):
            padded = np.zeros((len(batch), size, self.config.mel.num_mels), np.float32)
            for row, item in zip(padded, batch, strict=True):
                row[: part(*item).shape[1]] = part(*item).T
            lengths = np.array([part(*item).shape[1] for item in batch], np.int32)
            found = jax.tree.map(np.asarray, _run(self._frozen, jnp.asarray(padded), jnp.asarray(lengths)))
            for row, (number, window) in enumerate(batch):
                place = slice(window.keep_from - window.start, window.keep_to - window.start)
                # Copies, since views would keep the whole batch in memory.
                kept[number, window.start] = jax.tree.map(lambda array, r=row, at=place: array[r, at].copy(), found)
        if not all(np.isfinite(output.hidden).all() for output in kept.values()):
            raise CheckpointError("The encoder returned NaN or infinity; its weights are probably damaged.")
        places: dict[int, list[int]] = defaultdict(list)
        for number, start in sorted(kept):
            places[number].append(start)
        return [
            jax.tree.map(lambda *parts: np.concatenate(parts), *(kept[number, start] for start in places[number]))
            for number in range(len(mels))
        ]

    def _log_mel(self, audio: Any, sample_rate: float | None) -> Float32[np.ndarray, "mels frames"]:
        samples = validate_audio(audio)
        if sample_rate is not None:
            samples = resample(samples, sample_rate, self.sample_rate)
        return bucketed_nemo_log_mel(samples, self.config.mel, release=self.config.nemo_release)


def merge_repeats(numbers: Int32[np.ndarray, " frames"]) -> Int32[np.ndarray, " merged"]:
    """`numbers` without those that equal the one before."""
    return numbers[np.flatnonzero(np.diff(numbers, prepend=-1))]


@eqx.filter_jit
def _run(
    network: Conformer, features: Float[Array, "batch frames mels"], lengths: Int[Array, " batch"]
) -> ConformerOutput:
    return network(features, length=lengths)
