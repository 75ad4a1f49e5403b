"""Splitting a corpus into training and validation, reproducibly."""

import hashlib
from dataclasses import replace
from typing import Literal

from jaxvoice.data.utterances import Corpus
from jaxvoice.errors import DataError


def split(
    corpus: Corpus, validation: int | float | None = None, seed: int = 0, how: Literal["last", "random"] = "last"
) -> tuple[Corpus, Corpus]:
    """Divide `corpus` into one for training and one for validation, both in the order of `corpus`.

    `validation` is a number of utterances (an int) or a fraction of them (a float below 1). `None` is the part that the
    corpus itself holds out, or, without one, 5 %, at most 150 utterances (as many as HiFi-GAN holds out of LJSpeech).

    - `last`: the last utterances in the order of the corpus; `seed` has no effect.
    - `random`: by a hash of `seed` and the id of each utterance. With a fraction, an utterance stays on its side when
      files are added or removed. With a number, some may change sides to keep the number.

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
            raise DataError(f"Cannot hold out {validation!r}; pass a number of utterances or a fraction from 0 to 1.")
        if how == "last":
            count = validation if isinstance(validation, int) else _count(validation, total)
            held_out = frozenset(names[total - count :]) if count <= total else frozenset(names)
        elif how == "random":
            rank = {name: _position(seed, name) for name in names}
            order = sorted(names, key=lambda name: (rank[name], name))
            if isinstance(validation, int):
                held_out = frozenset(order[:validation])
            else:
                below = [name for name in order if rank[name] < validation]
                held_out = frozenset(below or order[: _count(validation, total)])
        else:
            raise DataError(f"Unknown way to split {how!r}; use 'last' or 'random'.")
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


def _position(seed: int, name: str) -> float:
    """A number in [0, 1) that depends only on `seed` and `name`."""
    digest = hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
