"""Find the full stops of abbreviations that also end a sentence."""

import re
from collections.abc import Container

_STARTERS = (
    "The A An This That These Those There Here He She It We You They I His Her Its Our Your Their My Mine Who What When"
    " Where Why How Which Whose If Then But And Or So Yet Nor For As At By In On Of To From With Without After Before"
    " Since Until While During Although Though Because However Therefore Moreover Meanwhile Nevertheless Still Also"
    " Thus Hence Perhaps Maybe Once Now Today Tomorrow Yesterday No Not Nobody Nothing None Yes Some Many Most All Each"
    " Every Everyone Everything Both Few Several Such Another Other Others One Two Three Did Do Does Is Are Was Were"
    " Will Would Can Could Should May Might Must Have Has Had Let Please Look See Call Go Come Do Don't It's He's She's"
    " That's There's They're We're I'm I'll You'll We'll"
)
STARTERS = frozenset(_STARTERS.split())
"""Words that start a sentence when they have a capital."""

_AFTER_TIMES = (
    "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun January"
    " February March April May June July August September October November December Jan Feb Mar Apr Jun Jul Aug Sep"
    " Sept Oct Nov Dec Eastern Central Mountain Pacific Greenwich British Local Universal Standard Daylight"
)
AFTER_TIMES = frozenset(_AFTER_TIMES.split())
SENTENCE_STOP = "\ue001"
"""The character that marks the end of a sentence after an abbreviation, while the abbreviation is expanded.

`fold_to_ascii` rejects it in texts.
"""

STOP = re.compile(r"\.[\"')\]]{0,3}(?= +[\"'(\[]{0,3}([A-Z][A-Za-z']*))")
DOTTED = re.compile(r"(?<![A-Za-z])(?:[A-Za-z]{1,2}\.)+[A-Za-z]$")
LAST_WORD = re.compile(r"[A-Za-z]+$")
TIME_OF_DAY = re.compile(r"(?i:[ap]\.?m)$")
NOT_AT_ENDS = frozenset(("e.g", "i.e", "E.g", "I.e"))


def mark_sentence_ends(text: str, abbreviations: Container[str]) -> str:
    """Write `SENTENCE_STOP` after full stops of folded `text` that belong to an abbreviation and end a sentence.

    A sentence ends before a word with which sentences start, such as `The`. After a time, it also ends before other
    words with a capital that do not belong to the time, such as `Monday` and `EST`.
    """

    def mark(match: re.Match[str]) -> str:
        before = text[max(0, match.start() - 20) : match.start()]
        word = match[1]
        time_of_day = TIME_OF_DAY.search(before)
        if dotted := DOTTED.search(before):
            abbreviated = dotted[0] not in NOT_AT_ENDS
        else:
            last = LAST_WORD.search(before)
            abbreviated = bool(time_of_day or (last and last[0] in abbreviations))
        starts = word in STARTERS
        if time_of_day:
            starts = word not in AFTER_TIMES and (len(word) == 1 or not word.isupper())
        return f".{SENTENCE_STOP}{match[0][1:]}" if abbreviated and starts else match[0]

    return STOP.sub(mark, text)


def write_sentence_stops(text: str) -> str:
    """Replace each `SENTENCE_STOP` by one full stop."""
    return re.sub(rf" ?\.?{SENTENCE_STOP}", ".", text)
