"""Utterances and corpora, the report on a corpus, and functions of utterances in threads."""

import os
import textwrap
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from jaxtyping import Int64

from jaxvoice.errors import DataError
from jaxvoice.text.phonemes import PhoneSet

if TYPE_CHECKING:
    from jaxvoice.data.alignments.alignment import Alignment
    from jaxvoice.dsp.mel_config import MelConfig

CorpusKind = Literal[
    "ljspeech", "vctk", "folder", "filelist", "pairs", "lj_aligned", "textgrid", "labels", "table", "json", "demo"
]
_ResultT = TypeVar("_ResultT")
_WIDTH, _SHOWN = 80, 5


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus, with its files and annotations.

    `id` is unique in the corpus. `audio` is the path of the recording, and `mel` the path of its mel spectrogram, a
    `.npy` file. `text`, `speaker` and `language` are empty if the corpus does not contain them.
    """

    id: str
    audio: Path | None = None
    text: str = ""
    speaker: str = ""
    alignment: "Alignment | None" = None
    mel: Path | None = None
    language: str = ""


@dataclass(frozen=True)
class RejectedUtterance:
    """An utterance that cannot be used: its id, the kind of the reason, for counts, and the reason."""

    id: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """The usable utterances of the corpus at `root`, in a fixed order, and the rejected ones.

    `validation_ids` are the ids that the corpus holds out for validation, empty if it has no such list. `mel` is the
    contract of the mel spectrograms in the corpus, `None` if there are none or it is unknown. `phone_set` contains the
    phones of the alignments, `None` for a corpus without alignments. `list_fields` states what the fields of its list
    were read as, such as `audio|speaker|text`, and is empty for a corpus without a list.
    """

    kind: CorpusKind
    root: Path
    utterances: tuple[Utterance, ...]
    rejected: tuple[RejectedUtterance, ...] = ()
    validation_ids: frozenset[str] = frozenset()
    mel: "MelConfig | None" = None
    phone_set: PhoneSet | None = None
    list_fields: str = ""

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The names of the speakers, sorted; empty if the corpus does not name speakers."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances} - {""}))

    @property
    def seconds(self) -> float:
        """Duration of all alignments, in seconds."""
        return sum(utterance.alignment.seconds for utterance in self.utterances if utterance.alignment is not None)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rejected utterances for each kind of reason."""
        return dict(Counter(item.kind for item in self.rejected))

    def table(self) -> str:
        """The corpus and its rejected utterances in lines of at most 80 characters."""
        rows = [("corpus", f"{self.root} ({self.kind})"), ("usable", f"{len(self)} utterance(s)")]
        if self.phone_set is not None:
            aligned = (utterance.alignment for utterance in self.utterances)
            phones = [phone for alignment in aligned if alignment is not None for phone in alignment.phones]
            known = len(self.phone_set.codes)
            rows.append(("duration", f"{self.seconds / 60:.1f} minutes"))
            rows.append(
                ("phones", f"{len(phones)}, {len(set(phones))} of the {known} codes of {self.phone_set.name!r}")
            )
        return report_table(rows, self.rejected, self.root)

    def __str__(self) -> str:
        return self.table()


def rows_of_speakers(corpus: Corpus) -> dict[str, Int64[np.ndarray, " rows"]]:
    """The numbers of the utterances of each speaker, in order. The speakers are sorted.

    **Raises:** `DataError` for utterances without a speaker.
    """
    rows: dict[str, list[int]] = {}
    for row, utterance in enumerate(corpus.utterances):
        rows.setdefault(utterance.speaker, []).append(row)
    if "" in rows:
        raise DataError(
            f"{len(rows[''])} recording(s), for example {corpus.utterances[rows[''][0]].id!r}, have no speaker; use a "
            "corpus with the speaker of each recording."
        )
    return {speaker: np.array(rows[speaker], np.int64) for speaker in sorted(rows)}


def map_utterances(
    function: Callable[[Utterance], _ResultT],
    utterances: Sequence[Utterance],
    threads: int | None = None,
    progress: str | None = None,
) -> Iterator[_ResultT]:
    """Yield `function(utterance)` for every utterance, in order, computed in threads.

    At most four results for each thread are held in memory. `threads` is by default the number of processors, at most
    8. `progress` names a progress bar on standard error.

    **Raises:** the exceptions of `function`.
    """
    count = threads or min(8, os.cpu_count() or 1)
    waiting: deque[Future[_ResultT]] = deque()
    if progress is not None:
        from tqdm import tqdm

        bar = tqdm(total=len(utterances), desc=progress, unit="file", disable=None)
    else:
        bar = None
    pool = ThreadPoolExecutor(count, thread_name_prefix="jaxvoice-data")
    try:
        for utterance in utterances:
            waiting.append(pool.submit(function, utterance))
            if len(waiting) >= 4 * count:
                yield waiting.popleft().result()
                if bar is not None:
                    bar.update()
        while waiting:
            yield waiting.popleft().result()
            if bar is not None:
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
        if bar is not None:
            bar.close()


def report_table(
    rows: Iterable[tuple[str, str]],
    rejected: Sequence[RejectedUtterance],
    root: Path,
    notes: Mapping[str, int] | None = None,
    *,
    shown: int | None = _SHOWN,
) -> str:
    """A table of names and values, of notes with their counts, and of rejected utterances by kind.

    Lines have at most 80 characters.

    **Arguments:** `rows`, pairs of a name and a value; `root`, which is removed from paths in the reasons; `notes`, the
    number of utterances for each remark; `shown`, the number of reasons that are listed for each kind, `None` for all.
    """
    lines = [line for name, value in rows for line in _wrapped(f"{name:<14}", value, 14)]
    for note, count in sorted((notes or {}).items()):
        lines += _wrapped(f"{'note':<14}", f"{count} utterance(s): {note}", 14)
    lines += _wrapped(f"{'rejected':<14}", f"{len(rejected)}", 14)
    prefix = f"{root}{os.sep}"  # the table states the root once, so that most paths fit in a line
    for kind, count in sorted(Counter(item.kind for item in rejected).items()):
        reasons = [item.reason.replace(prefix, "") for item in rejected if item.kind == kind]
        lines += _wrapped("  ", f"{kind}: {count}", 4)
        lines += [line for reason in reasons[:shown] for line in _wrapped("    - ", reason, 6)]
        if shown is not None and count > shown:
            lines.append(f"    - and {count - shown} more")
    return "\n".join(lines)


def _wrapped(head: str, text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * indent, break_on_hyphens=False)
