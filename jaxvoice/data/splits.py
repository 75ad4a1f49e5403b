"""Reproducible splits of a corpus into training and validation."""

import hashlib
from dataclasses import replace
from typing import Literal

from jaxvoice.data.utterances import Corpus
from jaxvoice.errors import DataError


def split(
    corpus: Corpus, validation: int | float | None = None, seed: int = 0, how: Literal["last", "random"] = "last"
) -> tuple[Corpus, Corpus]:
    """Divide `corpus` into a corpus for training and one for validation, both in the order of `corpus`.

    `validation` is a number of utterances (an int) or a fraction of them (a float below 1). `None` holds out the
    utterances in `corpus.validation_ids`. If there are none, it holds out 5 %, and at most 150 utterances, the number
    that HiFi-GAN holds out of LJSpeech.

    - `last` holds out the last utterances of the corpus; `seed` has no effect.
    - `random` holds out utterances by a hash of `seed` and their ids. With a fraction, adding or removing files does
      not move other utterances to the other side. With a number, it may move some, which keeps the number.

    **Raises:** `DataError` if no utterance would be left to train on, or `validation` is negative.
    """
    total = len(corpus)
    names = [utterance.id for utterance in corpus.utterances]
    if validation is None and corpus.validation_ids:
        held_out = corpus.validation_ids
    else:
        if validation is None:
            validation = min(150, max(1, total // 20))
        if validation < 0 or (isinstance(validation, float) and validation >= 1):
            raise DataError(
                f"The size of the validation set is {validation!r}; it should be a number of utterances, or a fraction "
                "of them below 1."
            )
        if how == "last":
            count = validation if isinstance(validation, int) else _count(validation, total)
            held_out = frozenset(names[total - count :]) if count <= total else frozenset(names)
        elif how == "random":
            rank = {name: _hash_fraction(seed, name) for name in names}
            order = sorted(names, key=lambda name: (rank[name], name))
            if isinstance(validation, int):
                held_out = frozenset(order[:validation])
            else:
                below = [name for name in order if rank[name] < validation]
                held_out = frozenset(below or order[: _count(validation, total)])
        else:
            raise DataError(f"how is {how!r}; it should be 'last' or 'random'.")
    train = tuple(utterance for utterance in corpus.utterances if utterance.id not in held_out)
    valid = tuple(utterance for utterance in corpus.utterances if utterance.id in held_out)
    if not train:
        raise DataError(
            f"Holding out {len(valid)} of the {total} utterance(s) of {corpus.root} leaves none to train on; "
            "hold out fewer (--validation 0, in Python validation=0, holds out none) or add audio."
        )
    return replace(corpus, utterances=train), replace(corpus, utterances=valid)


def _count(fraction: float, total: int) -> int:
    return 0 if fraction == 0 else max(1, round(fraction * total))


def _hash_fraction(seed: int, name: str) -> float:
    """A number in [0, 1), a hash of `seed` and `name`."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
