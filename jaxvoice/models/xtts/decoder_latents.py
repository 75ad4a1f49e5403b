"""The latents that the decoder of XTTS is trained on, computed from recordings and their texts.

The codes of a recording are those of the DVAE. The language model reads these codes, the text and a reference (teacher
forcing); the decoder is trained on its latents: one for each code, and one for the stop, as generation returns them.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int, Int32, Int64

from jaxvoice.config import check_positive, check_types, to_dict
from jaxvoice.data.buckets import choose_shapes, smallest_bucket
from jaxvoice.data.features import computed_columns
from jaxvoice.data.samplers import uniform
from jaxvoice.data.store import Column, Store
from jaxvoice.data.utterances import Corpus
from jaxvoice.errors import ConfigError
from jaxvoice.models.xtts.config import XTTSConfig
from jaxvoice.models.xtts.gpt_columns import with_tokens
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.models.xtts.references import SHORTEST_PART, speaker_audio
from jaxvoice.models.xtts_dvae.codec import CodecNetwork
from jaxvoice.models.xtts_dvae.front_end import normalized_log_mel
from jaxvoice.models.xtts_dvae.network import DVAE
from jaxvoice.weights.array_names import identity_of

Reference = Literal["other", "same"]
_VERSION, _STREAM = 2, 91  # of the stored latents; of random numbers
_CODE_MULTIPLE, _TOKEN_MULTIPLE = 16, 16


@dataclass(frozen=True)
class LatentsConfig:
    """How the latents of recordings are computed.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    reference: Reference = "other"
    """The reference of a recording: another recording of the speaker, or the same. The only recording of a speaker, and
    recordings without a speaker, are their own references."""
    reference_seconds: float = 6.0
    """Seconds at the beginning of a reference that are read."""
    batch_size: int = 8
    """Recordings that are computed at a time."""
    shapes: int = 4
    """Most shapes of batches, each of which is compiled."""
    seed: int = 0
    """Seed of the choice of references."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "reference_seconds", "batch_size", "shapes")
        if self.reference_seconds < SHORTEST_PART:
            raise ConfigError(f"reference_seconds is {self.reference_seconds}; it should be at least {SHORTEST_PART}.")


def usable_utterances(store: Store, encode: Callable[[str, str], Sequence[int]], config: XTTSConfig) -> Store:
    """The utterances of `store` that the language model can read, with the column `tokens`.

    The store's `rejected` also contains, with a reason, utterances whose text cannot be encoded, with too many tokens
    or codes, and those shorter than 0.33 s.

    **Arguments:** `store`, recordings at `config.input_rate`; `encode`, `Tokenizer.encode` of the model: the ids of a
    text in a language without start and stop.

    **Raises:** `ConfigError` for another sample rate; `DataError` if no utterance is left.
    """
    if store.sample_rate != config.input_rate:
        raise ConfigError(f"The store has {store.sample_rate} Hz; it should have {config.input_rate} Hz, as the DVAE.")
    gpt, shortest = config.gpt, math.ceil(SHORTEST_PART * store.sample_rate)

    def problem(samples: int, tokens: int) -> tuple[str, str] | None:
        codes = config.dvae.code_count(samples)
        if tokens > gpt.max_text:
            return "too many tokens", f"{tokens} text tokens; it should have at most {gpt.max_text}."
        if codes > gpt.max_new_codes:
            return "too long", f"{codes} codes; it should have at most {gpt.max_new_codes}. Cut it."
        if samples < shortest:
            return "too short", f"{samples / store.sample_rate:.2f} s; it should have at least {SHORTEST_PART} s."
        return None

    found = with_tokens(store, lambda utterance: encode(utterance.text, utterance.language), problem)
    framed = [np.array([gpt.start_text, *ids, gpt.stop_text], np.int32) for ids in found["tokens"]]
    return found.with_columns(tokens=framed)


def reference_rows(corpus: Corpus, config: LatentsConfig) -> Int64[np.ndarray, " utterances"]:
    """The number of the utterance that is the reference of each utterance, a function of `config.seed`."""
    rows = np.arange(len(corpus))
    if config.reference == "same":
        return rows
    members: dict[str, list[int]] = {}
    for row, utterance in enumerate(corpus.utterances):
        members.setdefault(utterance.speaker, []).append(row)
    chosen, draws = rows.copy(), uniform(config.seed, _STREAM, rows)
    for speaker, own in members.items():
        if speaker and len(own) > 1:
            for place, row in enumerate(own):
                other = int(draws[row] * (len(own) - 1))
                chosen[row] = own[other + (other >= place)]
    return chosen


def compute_latents(
    network: XTTS,
    codec: CodecNetwork,
    store: Store,
    config: LatentsConfig | None = None,
    *,
    identity: str | None = None,
    part: int = 256,
    cache: str | Path | None = None,
    progress: bool = False,
) -> dict[str, Column]:
    """The columns `codes` `(codes,)`, `latents` `(channels, codes + 1)` and `speaker` `(dim,)` of the recordings.

    They are computed in parts of `part` utterances and stored, so that an interrupted computation continues.

    **Arguments:**

    - `network`: its language model, its statistics of mel bands (for references) and its speaker encoder are used.
    - `codec`: the autoencoder whose codes the language model predicts, with its own statistics of mel bands.
    - `store`: recordings at `network.config.input_rate` with the column `tokens` of `usable_utterances`.
    - `config`: references and batches.
    - `identity`: the result of `latents_identity` if it is known, since it takes seconds for a large model.
    - `part`, `cache`, `progress`: as for `computed_columns`.

    **Raises:** `ConfigError` for a DVAE that is not that of `network`; `DataError` as `computed_columns`.
    """
    config = LatentsConfig() if config is None else config
    if codec.config.dvae != network.config.dvae:
        raise ConfigError(
            f"The configuration of the DVAE is {codec.config.dvae}; it should be {network.config.dvae}, dvae of the "
            "model."
        )
    dump = _Dump(network, codec, store, config)
    identity = latents_identity(network, codec, store, config) if identity is None else identity
    return computed_columns(store, dump.rows, identity=identity, part=part, cache=cache, progress=progress)


def latents_identity(network: XTTS, codec: CodecNetwork, store: Store, config: LatentsConfig) -> str:
    """A hash of all that the columns of `compute_latents` depend on, besides the recordings."""
    choice = [config.reference, config.reference_seconds, config.seed]
    tokens = hashlib.sha256(b"".join(np.asarray(ids).tobytes() + b"|" for ids in store["tokens"])).hexdigest()
    encoder = network.hifigan_decoder.speaker_encoder
    settings = [_VERSION, to_dict(network.config.gpt), to_dict(encoder.config), choice, tokens]
    dvae = codec.dvae
    networks = network.gpt, network.mel_stats, encoder, dvae.encoder, dvae.codebook, codec.mel_stats
    return hashlib.sha256(json.dumps([identity_of(networks, settings), to_dict(dvae.config)]).encode()).hexdigest()


class _References(NamedTuple):
    """The vectors of references."""

    conditioning: Float[Any, "batch vectors channels"]
    """Those of the language model."""
    speaker: Float[Any, "batch dim"]
    """Those of the decoder."""


class _Dump:
    """Computes the columns of parts of a store."""

    def __init__(self, network: XTTS, codec: CodecNetwork, store: Store, config: LatentsConfig):
        self._network, self._store, self._config = network, store, config
        self._dvae, self._mel_stats = codec.dvae, codec.mel_stats
        self._references = reference_rows(store.corpus, config)
        model = network.config
        longest = model.gpt.max_new_codes * model.dvae.samples_per_code - 1
        multiples = {"audio": _CODE_MULTIPLE * model.dvae.samples_per_code, "tokens": _TOKEN_MULTIPLE}
        limits = {"audio": longest, "tokens": model.gpt.max_text + 2}
        self._columns = ("audio", "tokens")
        self._shapes = choose_shapes(store, self._columns, config.shapes, multiples=multiples, limits=limits)
        self._lengths = np.stack([store.lengths(name) for name in self._columns], axis=1)

    def rows(self, numbers: Sequence[int]) -> Iterable[Mapping[str, np.ndarray]]:
        """The columns of the utterances `numbers`, in order."""
        rows = np.asarray(numbers)
        references = self._vectors_of(self._references[rows])
        found: dict[int, Mapping[str, np.ndarray]] = {}
        order = np.lexsort(self._lengths[rows].T[::-1])
        for places in self._batches(order):
            batch = rows[places]
            samples, tokens = smallest_bucket(self._shapes, self._lengths[batch])
            audio, lengths = self._audio(batch, samples)
            text, counts = _stacked([self._store["tokens"][row] for row in batch], tokens)
            given = map(jnp.asarray, (references.conditioning[places], audio, lengths, text, counts))
            codes, latents = _latents(self._network, self._dvae, self._mel_stats, *given)
            codes, latents = np.asarray(codes), np.asarray(latents, np.float32)
            for i, place in enumerate(places):
                count = self._dvae.config.code_count(int(lengths[i]))
                found[int(place)] = {
                    "codes": codes[i, :count],
                    "latents": np.ascontiguousarray(latents[i, : count + 1].T),
                    "speaker": references.speaker[place],
                }
        return [found[place] for place in range(len(rows))]

    def _batches(self, order: Int64[np.ndarray, " rows"]) -> Iterable[Int64[np.ndarray, " batch"]]:
        """`order` in batches of one size; the last one repeats its last number."""
        size = self._config.batch_size
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            yield np.pad(batch, (0, size - len(batch)), mode="edge")

    def _vectors_of(self, references: Int64[np.ndarray, " rows"]) -> _References:
        """The vectors of the reference of each row, which are computed once."""
        different, which = np.unique(references, return_inverse=True)
        size = int(self._config.reference_seconds * self._store.sample_rate)
        parts = []
        for places in self._batches(np.arange(len(different))):
            audio, lengths = self._audio(different[places], size, repeat=not self._has_perceiver)
            found = _reference_vectors(self._network, jnp.asarray(audio), jnp.asarray(lengths))
            parts.append(jax.tree.map(np.asarray, found))
        whole = jax.tree.map(lambda *arrays: np.concatenate(arrays)[which], *parts)
        return _References(*(np.asarray(array, np.float32) for array in whole))

    @property
    def _has_perceiver(self) -> bool:
        return self._network.gpt.conditioning_perceiver is not None

    def _audio(
        self, rows: Int64[np.ndarray, " batch"], size: int, *, repeat: bool = False
    ) -> tuple[Float32[np.ndarray, "batch size"], Int32[np.ndarray, " batch"]]:
        """Recordings that are cut or padded to `size` samples, and their lengths; short ones repeat with `repeat`.

        A model without a perceiver has a vector for each frame of a reference, so all references have one length.
        """
        found = [self._store.waveform(int(row))[:size] for row in rows]
        return _stacked([np.resize(one, size) for one in found] if repeat else found, size)


def _stacked(rows: Sequence[np.ndarray], size: int) -> tuple[np.ndarray, Int32[np.ndarray, " batch"]]:
    """`rows`, padded with zeros to `size` values, and their lengths."""
    return np.stack([np.pad(row, (0, size - len(row))) for row in rows]), np.array([len(row) for row in rows], np.int32)


@eqx.filter_jit
def _reference_vectors(
    network: XTTS, audio: Float[Array, "batch samples"], length: Int[Array, " batch"]
) -> _References:
    """The vectors of references of which the first `length` samples are valid."""
    config = network.config
    mel_config, rate = config.gpt.conditioning.mel, config.input_rate
    mel = normalized_log_mel(audio, network.mel_stats, mel_config, length=length)
    conditioning = network.gpt.condition(mel, count=length // mel_config.hop_length + 1)
    encoder = network.hifigan_decoder.speaker_encoder
    resampled = -(-length * encoder.config.sample_rate // rate)
    return _References(conditioning, encoder(speaker_audio(audio, rate), length=resampled))


@eqx.filter_jit
def _latents(
    network: XTTS,
    dvae: DVAE,
    mel_stats: Float[Array, " mels"],
    conditioning: Float[Array, "batch vectors channels"],
    audio: Float[Array, "batch samples"],
    length: Int[Array, " batch"],
    text: Int[Array, "batch tokens"],
    text_count: Int[Array, " batch"],
) -> tuple[Int32[Array, "batch codes"], Float[Array, "batch codes+1 channels"]]:
    """The codes of recordings of which the first `length` samples are valid, and the latents for them and for the stop.

    The latent of the stop follows that of the last valid code.
    """
    mel_config = dvae.config.mel
    mel = normalized_log_mel(audio, mel_stats, mel_config, length=length)
    codes = dvae.encode(mel, length=length // mel_config.hop_length + 1)
    # The last code is that of the stop, which no latent depends on.
    followed = jnp.pad(codes, ((0, 0), (0, 1)))
    latents = network.gpt.latents(conditioning, text, followed, text_count=text_count)
    return codes, latents
