"""The columns of a store that VITS is trained with: tokens, speakers and languages; and their sampler."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Int32

from jaxvoice.config import suggest_names
from jaxvoice.data.buckets import choose_shapes
from jaxvoice.data.store import Column, Store
from jaxvoice.data.utterances import RejectedUtterance
from jaxvoice.data.weighted_buckets import Attribute, WeightedBuckets
from jaxvoice.errors import ConfigError, DataError, TextError
from jaxvoice.models.vits.config import VITSConfig
from jaxvoice.text.symbol_texts import check_characters, texts_to_symbols

VectorsFunction = Callable[[Store], Float32[np.ndarray, "utterances dim"]]
"""Computes a vector for each utterance of a store."""
_FRAME_MULTIPLE, _TOKEN_MULTIPLE = 64, 32


def training_columns(
    store: Store,
    config: VITSConfig,
    *,
    speakers: Sequence[str] = (),
    vectors: Float32[np.ndarray, "utterances dim"] | VectorsFunction | None = None,
    max_frames: int | None = None,
) -> Store:
    """The usable utterances of `store` with the columns `tokens`, and where the model has them, `speaker` and
    `language`.

    The store's `rejected` also contains, with a reason, utterances whose text is empty or contains unknown characters,
    that are shorter than a frame or longer than `max_frames`, and those with more tokens than frames, for which no
    alignment exists. With blanks, a text of n symbols has 2 n + 1 tokens. Texts are converted as in a synthesis: for a
    model that reads the IPA, espeak-ng converts them (extra `demo`), and for a model of characters with languages,
    numbers in digits are spelled.

    **Arguments:**

    - `store`: recordings with texts at the sample rate of the model.
    - `config`: the model.
    - `speakers`: the names of the speakers in the order of their ids, for a model with a table of speakers.
    - `vectors`: the embedding of each recording by a speaker encoder, for a model that reads vectors; or a function
      that computes them for the store of the usable utterances.
    - `max_frames`: the largest number of frames of an utterance; `None` sets no limit.

    **Raises:** `ConfigError` for another sample rate, or if names or vectors are missing or of another number or
    size; `DataError` if no utterance is left, or for a speaker or language that the model does not have; for the IPA
    otherwise as `texts_to_ipa`.
    """
    mel = config.mel
    if store.sample_rate != mel.sample_rate:
        raise ConfigError(
            f"The store has a sample rate of {store.sample_rate} Hz; it should have {mel.sample_rate} Hz, that of the "
            "model. Load it with load_store(corpus, model.mel.sample_rate)."
        )
    languages = _numbers(store, "language", config.languages) if config.languages else None
    table = _numbers(store, "speaker", _checked_speakers(config, speakers)) if config.num_speakers else None
    given = None
    if config.reads_vectors:
        given = vectors if callable(vectors) else _checked_vectors(config, store, vectors)
    kept, tokens, rejected = [], [], list(store.rejected)
    samples, texts = store.lengths("audio"), _texts_in_symbols(store, config)
    for row, utterance in enumerate(store.corpus.utterances):
        frames = int(samples[row]) // mel.hop_length
        try:
            check_characters(utterance.text, config.symbols, utterance.language if config.languages else None)
            ids = config.symbols.ids(texts[row])
        except TextError as failure:
            rejected.append(RejectedUtterance(utterance.id, "text", f"{utterance.id}: {failure}"))
            continue
        problem = _problem(frames, len(ids), int(samples[row]) < mel.min_samples, max_frames)
        if problem is not None:
            kind, reason = problem
            rejected.append(RejectedUtterance(utterance.id, kind, f"{utterance.id} has {reason}"))
            continue
        kept.append(row)
        tokens.append(np.array(ids, np.int32))
    usable = store.usable(kept, rejected)
    columns: dict[str, Column] = {"tokens": tokens}
    if languages is not None:
        columns["language"] = languages[kept]
    if table is not None:
        columns["speaker"] = table[kept]
    elif callable(given):
        columns["speaker"] = _checked_vectors(config, usable, given(usable))
    elif given is not None:
        columns["speaker"] = given[kept]
    return usable.with_columns(**columns)


def training_sampler(
    store: Store,
    config: VITSConfig,
    batch_size: int,
    *,
    buckets: int = 4,
    balance: tuple[Attribute, ...] = (),
    adapted: tuple[str, ...] = (),
    adapted_share: float = 0.25,
) -> WeightedBuckets:
    """The sampler of `VITSTask` for a store of `training_columns`, with at most `buckets` shapes of batches.

    Lengths are rounded up to 64 frames and to 32 tokens. The other arguments are those of `WeightedBuckets`.
    """
    columns = ("audio", "tokens")
    multiples = {"audio": _FRAME_MULTIPLE * config.mel.hop_length, "tokens": _TOKEN_MULTIPLE}
    fixed = ("gain", *(name for name in ("speaker", "language") if name in store))
    return WeightedBuckets(
        batch_size,
        columns,
        fixed,
        choose_shapes(store, columns, buckets, multiples=multiples),
        balance=balance,
        adapted=adapted,
        adapted_share=adapted_share,
    )


def _texts_in_symbols(store: Store, config: VITSConfig) -> list[str]:
    """The text of each utterance in the symbols of the model."""
    utterances = store.corpus.utterances
    texts = [utterance.text for utterance in utterances]
    languages = [utterance.language if config.languages else None for utterance in utterances]
    for language in dict.fromkeys(languages):
        rows = [row for row, one in enumerate(languages) if one == language]
        converted = texts_to_symbols([texts[row] for row in rows], config.symbols, language)
        for row, text in zip(rows, converted, strict=True):
            texts[row] = text
    return texts


def _problem(frames: int, tokens: int, short: bool, max_frames: int | None) -> tuple[str, str] | None:
    """The kind of the reason to reject an utterance, and the reason; `None` for a usable one."""
    if short or frames == 0:
        return "too short", f"{frames} frame(s), fewer than a spectrogram needs; remove it."
    if tokens > frames:
        return (
            "more tokens than frames",
            f"{tokens} tokens and {frames} frames; it should have at most as many tokens as frames. Check that the "
            "text matches the audio.",
        )
    if max_frames is not None and frames > max_frames:
        return "too long", f"{frames} frames; it should have at most {max_frames}. Cut it or raise the limit."
    return None


def _numbers(store: Store, attribute: str, names: Sequence[str]) -> Int32[np.ndarray, " utterances"]:
    """The number in `names` of the attribute of each utterance."""
    numbers = {name: number for number, name in enumerate(names)}
    values = [getattr(utterance, attribute) for utterance in store.corpus.utterances]
    unknown = sorted(set(values) - set(numbers))
    if unknown:
        example = store.corpus.utterances[values.index(unknown[0])].id
        raise DataError(
            f"The {attribute} of {values.count(unknown[0])} utterance(s), for example {example!r}, is {unknown[0]!r}, "
            f"which is none of the {len(names)} {attribute}s of the model; {suggest_names(unknown[0], names)}"
        )
    return np.array([numbers[value] for value in values], np.int32)


def _checked_speakers(config: VITSConfig, speakers: Sequence[str]) -> Sequence[str]:
    if len(speakers) != config.num_speakers:
        raise ConfigError(
            f"speakers has {len(speakers)} names; it should have {config.num_speakers}, the number of speakers of the "
            "model. Set model.num_speakers to the number of names."
        )
    return speakers


def _checked_vectors(
    config: VITSConfig, store: Store, vectors: Float32[np.ndarray, "utterances dim"] | None
) -> Float32[np.ndarray, "utterances dim"]:
    expected = (len(store), config.speaker_channels)
    if vectors is None:
        raise ConfigError(
            f"vectors is None; it should have the shape {expected}, with the embedding of a speaker encoder for each "
            "recording, because the model reads vectors of speakers."
        )
    vectors = np.asarray(vectors, np.float32)
    if vectors.shape != expected:
        raise ConfigError(
            f"vectors has the shape {vectors.shape}; it should be {expected}: one embedding for each recording, of the "
            "size speaker_channels of the model. Use the speaker encoder that the model is trained with."
        )
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if bad.size:
        example = store.corpus.utterances[bad[0]].id
        raise DataError(
            f"The vectors of {bad.size} recording(s), for example of {example!r}, are zero or not finite; remove these "
            "recordings, or compute the vectors again."
        )
    return vectors
