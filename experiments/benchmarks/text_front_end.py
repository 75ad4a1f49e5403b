"""Count by which method the words of a corpus are pronounced, and measure words per second.

    python -m experiments.benchmarks.text_front_end --data LJSpeech-1.1
    python -m experiments.benchmarks.text_front_end --texts LJSpeech-1.1/metadata.csv --field 2

Words are counted by the source of their pronunciation: dictionary, morphology, letter-to-sound, or spelling letter by
letter. Words of the last two are listed with their phonemes, since their pronunciations are predicted and may need
entries in `custom_words`. The front end resolves the words that are not spelled.
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
from jaxvoice.text.word_pronunciation import PronunciationSource

SOURCES: tuple[PronunciationSource, ...] = ("dictionary", "morphology", "letters", "spelled")


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    data: Path | None = None
    """A corpus with texts: LJSpeech's layout, VCTK's, or a file list."""
    texts: Path | None = None
    """Instead of a corpus, a file with one text per line, without recordings."""
    field: int | None = None
    """Number of the field that contains the text, if fields are separated by `|`; the first is 1. Default: the last."""
    kind: Literal["auto", "ljspeech", "vctk", "filelist"] = "auto"
    """Layout of the corpus."""
    mode: Literal["default", "compat"] = "default"
    """Mode of `jaxvoice.text.pronounce`."""
    list: int = 40
    """Number of words with predicted pronunciations to list, the most frequent first."""
    json: Path | None = None
    """File for the results, with all words whose pronunciations are predicted."""


class Counted(NamedTuple):
    """Counts of the words of some texts."""

    words: Counter[PronunciationSource]
    """Number of words by source."""
    guessed: Counter[tuple[str, PronunciationSource, str]]
    """Words with predicted pronunciations: word, source, phonemes."""
    rejected: list[str]
    """Texts that cannot be pronounced, with the error."""
    seconds: float
    """Time for all texts, including the loading of the dictionary."""


def count(texts: Iterable[str], mode: Literal["default", "compat"] = "default") -> Counted:
    """Pronounce `texts` and count their words, without pauses and phonemes in braces."""
    words: Counter[PronunciationSource] = Counter()
    guessed: Counter[tuple[str, PronunciationSource, str]] = Counter()
    rejected: list[str] = []
    start = time.perf_counter()
    for text in texts:
        try:
            pronunciation = pronounce(text, mode=mode)
        except TextError as error:
            rejected.append(f"{text[:60]!r}: {error}")
            continue
        for word in pronunciation.words:
            if word.source in SOURCES:
                words[word.source] += 1
            if word.source in SOURCES[2:]:
                guessed[word.text.lower(), word.source, " ".join(word.codes)] += 1
    return Counted(words, guessed, rejected, time.perf_counter() - start)


def texts_of(options: Options) -> Sequence[str]:
    """Read the texts that `options` name.

    **Raises:** `SystemExit` if there are none.
    """
    if (options.data is None) == (options.texts is None):
        raise SystemExit("Pass either --data, a corpus, or --texts, a file with one text per line.")
    if options.texts is not None:
        lines = options.texts.read_text(encoding="utf-8").splitlines()
        index = -1 if options.field is None else options.field - 1
        rows = [line.split("|") for line in lines if line.strip()]
        if any(not -1 <= index < len(row) for row in rows):
            raise SystemExit(f"--field is {options.field}; it should be a field of every line of {options.texts}.")
        texts = [row[index].strip() for row in rows]
    else:
        assert options.data is not None
        texts = [utterance.text or "" for utterance in find_corpus(options.data, options.kind).utterances]
    texts = [text for text in texts if text]
    if not texts:
        raise SystemExit(f"{options.data or options.texts} has no texts.")
    return texts


def rows_of(counted: Counted) -> list[dict[str, Any]]:
    """One row per source, and a row for all words that are not spelled."""
    total = counted.words.total()
    different = {source: len({word for word, found, _ in counted.guessed if found == source}) for source in SOURCES[2:]}
    rows: list[dict[str, Any]] = [
        {
            "found": source,
            "words": counted.words[source],
            "share %": 100 * counted.words[source] / total,
            "different words": different[source] if source in SOURCES[2:] else None,
        }
        for source in SOURCES
    ]
    resolved = total - counted.words["spelled"]
    return [*rows, {"found": "not spelled", "words": resolved, "share %": 100 * resolved / total}]


def main(options: Options) -> None:
    """Count the words, list the predicted ones, and report."""
    texts = texts_of(options)
    counted = count(texts, options.mode)
    if not counted.words:
        raise SystemExit(f"None of the texts can be pronounced. The first error: {counted.rejected[0]}")
    guessed = [
        {"word": word, "found": source, "times": times, "phonemes": phonemes}
        for (word, source, phonemes), times in counted.guessed.most_common()
    ]
    if guessed and options.list:
        print(common.table(guessed[: options.list]))
    if len(guessed) > options.list:
        print(f"... and {len(guessed) - options.list} more")
    for rejected in counted.rejected:
        print(f"cannot be pronounced: {rejected}")
    speed = counted.words.total() / counted.seconds
    print(
        f"\n{len(texts) - len(counted.rejected)} texts, {counted.words.total()} words, {speed:.0f} words/s on one "
        f"processor; {len(counted.rejected)} texts cannot be pronounced"
    )
    common.report(
        f"text to phonemes, {options.mode} mode",
        options,
        rows_of(counted),
        texts=len(texts),
        refused=counted.rejected,
        words_per_second=speed,
        guessed=guessed,
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
