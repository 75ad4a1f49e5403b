"""The columns of stores that train the language model of XTTS, and their batches."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxvoice.data.buckets import choose_shapes
from jaxvoice.data.store import Store
from jaxvoice.data.utterances import RejectedUtterance, Utterance
from jaxvoice.data.weighted_buckets import Attribute, WeightedBuckets
from jaxvoice.errors import ConfigError, DataError, TextError
from jaxvoice.models.xtts.config import XTTSConfig

COLUMNS, FIXED = ("audio", "tokens"), ("gain",)
"""The columns over time, and the fixed ones, of batches of `GPTTask`."""
MAX_SAMPLES = 255_995
"""Samples of the longest recording that the release trains on, at 22,050 Hz."""
MAX_TOKENS = 200
"""Tokens of the longest text that the release trains on."""
_CODE_MULTIPLE, _TOKEN_MULTIPLE = 16, 16


def training_columns(
    store: Store,
    config: XTTSConfig,
    encode: Callable[[str, str], Sequence[int]],
    *,
    max_samples: int = MAX_SAMPLES,
    max_tokens: int = MAX_TOKENS,
) -> Store:
    """The usable utterances of `store` with the column `tokens`, text tokens without start and stop.

    The store's `rejected` also contains, with a reason, utterances with an empty text or one that cannot be converted,
    with recordings of more than `max_samples` samples or too few for a reference, and with more than `max_tokens`
    tokens. Both limits are also those of the positions of the model.

    **Arguments:**

    - `store`: recordings with texts and languages at the sample rate of the DVAE.
    - `config`: the model.
    - `encode`: takes a text and its language, and returns the tokens, such as `Tokenizer.encode`.
    - `max_samples`, `max_tokens`: the limits.

    **Raises:** `ConfigError` for another sample rate, or tokens that the model does not have; `DataError` if no
    utterance is left, or for a language that the model does not have.
    """
    if store.sample_rate != config.input_rate:
        raise ConfigError(
            f"The store has a sample rate of {store.sample_rate} Hz; it should have {config.input_rate} Hz, that of "
            "the model. Load it with load_store(corpus, model.input_rate)."
        )
    gpt, limits = config.gpt, _limits(config)
    max_samples, max_tokens = min(max_samples, limits["audio"]), min(max_tokens, limits["tokens"])
    min_samples = 2 * gpt.conditioning.mel.min_samples

    def read(utterance: Utterance) -> Sequence[int]:
        if utterance.language not in config.languages:
            raise DataError(
                f"The language of the utterance {utterance.id!r} is {utterance.language!r}; the model has "
                f"{', '.join(map(repr, config.languages))}. Correct the corpus, or train a model of its languages."
            )
        ids = encode(utterance.text, utterance.language)
        invalid = [number for number in ids if not 0 <= number < gpt.text_ids]
        if invalid:
            raise ConfigError(
                f"A token of the utterance {utterance.id!r} is {invalid[0]}; it should be from 0 to "
                f"{gpt.text_ids - 1}, below gpt.text_ids. Use the vocabulary of the model."
            )
        return ids

    def problem(samples: int, tokens: int) -> tuple[str, str] | None:
        return _problem(samples, tokens, min_samples, max_samples, max_tokens)

    return with_tokens(store, read, problem)


def with_tokens(
    store: Store, read: Callable[[Utterance], Sequence[int]], problem: Callable[[int, int], tuple[str, str] | None]
) -> Store:
    """The usable utterances of `store` with the column `tokens`, the results of `read`.

    The store's `rejected` also contains utterances for which `read` raises `TextError`, and those with a problem.

    **Arguments:** `read`, the tokens of an utterance; `problem` of the number of samples and of tokens: the kind of a
    reason to reject an utterance, and what it has; `None` for a usable one.

    **Raises:** `DataError` if no utterance is left.
    """
    kept, tokens, rejected = [], [], list(store.rejected)
    samples = store.lengths("audio").tolist()
    for row, utterance in enumerate(store.corpus.utterances):
        try:
            ids = np.array(read(utterance), np.int32)
        except TextError as failure:
            rejected.append(RejectedUtterance(utterance.id, "text", f"{utterance.id}: {failure}"))
            continue
        found = problem(samples[row], len(ids))
        if found is not None:
            rejected.append(RejectedUtterance(utterance.id, found[0], f"{utterance.id} has {found[1]}"))
            continue
        kept.append(row)
        tokens.append(ids)
    return store.usable(kept, rejected).with_columns(tokens=tokens)


def training_sampler(
    store: Store,
    config: XTTSConfig,
    batch_size: int,
    *,
    buckets: int = 4,
    balance: tuple[Attribute, ...] = ("language",),
) -> WeightedBuckets:
    """The sampler of `GPTTask` for a store of `training_columns`, with at most `buckets` shapes of batches.

    Lengths are rounded up to 16 codes and to 16 tokens. Languages are balanced by default, as in the release.
    """
    return WeightedBuckets(batch_size, COLUMNS, FIXED, batch_shapes(store, config, buckets), balance=balance)


def batch_shapes(store: Store, config: XTTSConfig, count: int) -> tuple[tuple[int, ...], ...]:
    """At most `count` shapes of batches of `COLUMNS`; lengths are rounded up to 16 codes and to 16 tokens."""
    multiples = {"audio": _CODE_MULTIPLE * config.dvae.samples_per_code, "tokens": _TOKEN_MULTIPLE}
    return choose_shapes(store, COLUMNS, count, multiples=multiples, limits=_limits(config))


def _limits(config: XTTSConfig) -> dict[str, int]:
    """The largest lengths of `COLUMNS` for which the model has positions, besides those of the start and four stops."""
    gpt = config.gpt
    return {"audio": (gpt.max_audio - 3) * config.dvae.samples_per_code, "tokens": gpt.max_text}


def _problem(samples: int, tokens: int, min_samples: int, max_samples: int, max_tokens: int) -> tuple[str, str] | None:
    """The kind of the reason to reject an utterance, and the reason; `None` for a usable one."""
    if samples < min_samples:
        reason = f"{samples} samples; it should have at least {min_samples}, twice the shortest input of the mel"
        return "too short", f"{reason} spectrogram."
    if samples > max_samples:
        return "too long", f"{samples} samples; it should have at most {max_samples}. Cut it."
    if not tokens:
        return "no text", "no text; add it, or remove the utterance."
    if tokens > max_tokens:
        return "text too long", f"{tokens} text tokens; it should have at most {max_tokens}. Cut it."
    return None
