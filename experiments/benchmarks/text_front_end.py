"""How the words of a corpus get their pronunciation, and how many a second.

    python -m experiments.benchmarks.text_front_end --data LJSpeech-1.1
    python -m experiments.benchmarks.text_front_end --texts LJSpeech-1.1/metadata.csv --field 2

Words are counted by how they were found: in the dictionary, by morphology, by letter-to-sound, or spelled out; those of
the last two are listed with what they became, since these are the ones to give to `custom_words`. The share that is not
spelled out is what the front end resolves.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tyro

from experiments.benchmarks import common
from jaxvoice.data import find_corpus
from jaxvoice.errors import TextError
from jaxvoice.text import pronounce
from jaxvoice.text.words import How

FOUND: tuple[How, ...] = ("dictionary", "morphology", "letters", "spelled")


@dataclass(frozen=True)
class Options:
    """What to read."""

    data: Path | None = None
    """A corpus with texts: LJSpeech's layout, VCTK's, or a file list."""
    texts: Path | None = None
    """Instead of a corpus: a file with one text in each line; needs no recordings."""
    field: int | None = None
    """In which of the fields between `|` of each line the text is, from 1 on; by default the last."""
    kind: Literal["auto", "ljspeech", "vctk", "filelist"] = "auto"
    """Layout of the corpus."""
    mode: Literal["default", "compat"] = "default"
    """How texts are read."""
    list: int = 40
    """How many of the words that no dictionary holds are shown, the most frequent first."""
    json: Path | None = None
    """File to write the results to, with all of these words."""


class Counted(NamedTuple):
    """What became of the words of some texts."""

    words: Counter[How]
    """How many words were found in which way."""
    guessed: Counter[tuple[str, How, str]]
    """The words that were neither in the dictionary nor built from it: word, way, phonemes."""
    refused: list[str]
    """Texts that cannot be said, and why."""
    seconds: float
    """How long all of it took, the first reading of the dictionary included."""


def count(texts: Iterable[str], mode: Literal["default", "compat"] = "default") -> Counted:
    """Pronounce `texts` and count their words; pauses and phonemes given in braces are none."""
    words: Counter[How] = Counter()
    guessed: Counter[tuple[str, How, str]] = Counter()
    refused: list[str] = []
    start = time.perf_counter()
    for text in texts:
        try:
            spoken = pronounce(text, mode=mode)
        except TextError as error:
            refused.append(f"{text[:60]!r}: {error}")
            continue
        for word in spoken.words:
            if word.how in FOUND:
                words[word.how] += 1
            if word.how in FOUND[2:]:
                guessed[word.text.lower(), word.how, " ".join(word.codes)] += 1
    return Counted(words, guessed, refused, time.perf_counter() - start)


def texts_of(options: Options) -> Sequence[str]:
    """The texts that `options` name; raises `SystemExit` where there are none."""
    if (options.data is None) == (options.texts is None):
        raise SystemExit("Give either --data, a corpus, or --texts, a file with one text in each line.")
    if options.texts is not None:
        lines = options.texts.read_text(encoding="utf-8").splitlines()
        place = -1 if options.field is None else options.field - 1
        rows = [line.split("|") for line in lines if line.strip()]
        if any(not -1 <= place < len(row) for row in rows):
            raise SystemExit(f"{options.texts} has lines without a field {options.field}.")
        texts = [row[place].strip() for row in rows]
    else:
        assert options.data is not None
        texts = [utterance.text or "" for utterance in find_corpus(options.data, options.kind).utterances]
    texts = [text for text in texts if text]
    if not texts:
        raise SystemExit(f"{options.data or options.texts} has no texts.")
    return texts


def rows_of(counted: Counted) -> list[dict[str, Any]]:
    """One row for each way to find a word, and their sum; no word is counted twice."""
    total = counted.words.total()
    of_way = Counter({way: len({word for word, how, _ in counted.guessed if how == way}) for way in FOUND[2:]})
    rows: list[dict[str, Any]] = [
        {
            "found": way,
            "words": counted.words[way],
            "share %": 100 * counted.words[way] / total,
            "different words": of_way[way] if way in FOUND[2:] else None,
        }
        for way in FOUND
    ]
    resolved = total - counted.words["spelled"]
    return [*rows, {"found": "not spelled", "words": resolved, "share %": 100 * resolved / total}]


def main(options: Options) -> None:
    """Count, list, report."""
    load = common.OtherLoad()
    texts = texts_of(options)
    counted = count(texts, options.mode)
    if not counted.words:
        raise SystemExit(f"none of the {len(texts)} texts has a word to say; the first: {counted.refused[0]}")
    guessed = [
        {"word": word, "found": how, "times": times, "phonemes": phonemes}
        for (word, how, phonemes), times in counted.guessed.most_common()
    ]
    if guessed and options.list:
        print(common.table(guessed[: options.list]))
    if len(guessed) > options.list:
        print(f"... and {len(guessed) - options.list} more")
    for refused in counted.refused:
        print(f"cannot be said: {refused}")
    speed = counted.words.total() / counted.seconds
    print(
        f"\n{len(texts) - len(counted.refused)} texts, {counted.words.total()} words, {speed:.0f} words/s on one "
        f"processor; {len(counted.refused)} texts cannot be said"
    )
    common.report(
        f"text to phonemes, {options.mode} mode",
        options,
        1,
        rows_of(counted),
        load=load,
        json_path=options.json,
        texts=len(texts),
        refused=counted.refused,
        words_per_second=speed,
        guessed=guessed,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
