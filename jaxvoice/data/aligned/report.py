"""What of an aligned corpus cannot be used and why, counted and printable."""

import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_WIDTH, _SHOWN = 80, 5


@dataclass(frozen=True)
class RejectedUtterance:
    """The id of an utterance that cannot be used, the kind of reason it is counted under, and the reason in words."""

    id: str
    kind: str
    reason: str


def table(
    rows: Iterable[tuple[str, str]], rejected: Sequence[RejectedUtterance], root: Path, notes: dict[str, int]
) -> str:
    """`rows` of names and values, then `notes`, then how many were rejected for what, in lines of 80 characters.

    Of each kind of reason the first five are told in full, without `root` in their paths.
    """
    lines = [line for name, value in rows for line in _wrapped(f"{name:<14}", value, 14)]
    for note, count in sorted(notes.items()):
        lines += _wrapped(f"{'note':<14}", f"{count} utterance(s): {note}", 14)
    lines += _wrapped(f"{'rejected':<14}", f"{len(rejected)}", 14)
    for kind, count in sorted(counted(rejected).items()):
        reasons = [item.reason.replace(f"{root}{os.sep}", "") for item in rejected if item.kind == kind]
        lines += _wrapped("  ", f"{kind}: {count}", 4)
        lines += [line for reason in reasons[:_SHOWN] for line in _wrapped("    - ", reason, 6)]
        lines += [f"    - and {count - _SHOWN} more"] if count > _SHOWN else []
    return "\n".join(lines)


def counted(rejected: Iterable[RejectedUtterance]) -> dict[str, int]:
    """How many utterances were rejected for each kind of reason."""
    return dict(Counter(item.kind for item in rejected))


def _wrapped(head: str, text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=head, subsequent_indent=" " * indent, break_on_hyphens=False)
