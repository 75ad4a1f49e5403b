"""What the patterns matched that a user gave for names of tensors."""

from collections.abc import Iterable, Mapping, Sequence

from jaxvoice.weights.misfits import told
from jaxvoice.weights.rules import regex

Matches = Mapping[str, Sequence[str]]
"""By pattern, the names that it matches as a whole."""


def matches(patterns: Iterable[str], names: Iterable[str]) -> Matches:
    """Which of `names` each pattern matches as a whole; raises `CheckpointError` for what is no regular expression."""
    names = list(names)
    return {one: [name for name in names if found.fullmatch(name)] for one in patterns for found in [regex(one)]}


def unmatched(option: str, found: Matches, names: Iterable[str]) -> list[str]:
    """A sentence for each pattern that matched none of `names`, with one of them that may have been meant."""
    names, sentences = list(names), []
    for pattern in (pattern for pattern, hits in found.items() if not hits):
        meant = next((name for name in names if regex(pattern).search(name)), names[0] if names else None)
        such = "" if meant is None else f", such as {told(meant)}"
        sentences.append(f"{option} {told(pattern)} matched nothing: patterns are matched against full names{such}")
    return sentences
