"""The CMU Pronouncing Dictionary that is part of jaxvoice (licence: data/CMUDICT_LICENSE.txt)."""

import gzip
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files


class Dictionary:
    """A pronouncing dictionary: sorted lines of text, `word PH0 PH1 ...`.

    Searches are binary searches in the text itself: 126,052 entries take 3.3 MB of memory and no index.
    """

    def __init__(self, lines: bytes):
        self._lines = lines if lines.endswith(b"\n") else lines + b"\n"

    def get(self, word: str) -> tuple[str, ...] | None:
        """ARPAbet phones of `word` (lower case), vowels with stress 0, 1 or 2; None if it has no entry."""
        wanted = word.encode()
        low, high = 0, len(self._lines)
        while low < high:
            start = self._lines.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = self._lines.index(b"\n", start)
            found, _, phones = self._lines[start:end].partition(b" ")
            if found == wanted:
                return tuple(phones.decode().split())
            if found < wanted:
                low = end + 1
            else:
                high = start
        return None

    def __contains__(self, word: str) -> bool:
        return self.get(word) is not None

    def items(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield every word with its phones, in sorted order."""
        for line in self._lines.decode().splitlines():
            word, *phones = line.split()
            yield word, tuple(phones)


@lru_cache(maxsize=1)
def cmudict() -> Dictionary:
    """The shipped dictionary: the first pronunciation of each of 126,052 words, without comments."""
    return Dictionary(gzip.decompress((files("jaxvoice.text") / "data" / "cmudict.txt.gz").read_bytes()))
