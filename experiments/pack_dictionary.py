"""Make the pronouncing dictionary that jaxvoice ships from the CMU Pronouncing Dictionary's text file.

    python -m experiments.pack_dictionary cmudict.dict [--out jaxvoice/text/data/cmudict.txt.gz]

Reads both spellings that CMU publishes: `cmudict.dict` of github.com/cmusphinx/cmudict (lower case, variants as
`word(2)`, remarks after `#`), which the shipped file was made from, and the older `cmudict-0.7b` (upper case, variants
as `WORD(1)`, remarks after `;;;`, Latin-1). Of each word the first pronunciation is kept, in lower case; the lines are
sorted by their bytes and compressed without a time stamp, so that the same text makes the same file.
"""

import gzip
import re
from pathlib import Path

import tyro

LINE = re.compile(
    r"(?P<word>\S+?)(?P<variant>\(\d+\))?\s+(?P<phones>[A-Z]{1,2}[0-2]?(?:\s+[A-Z]{1,2}[0-2]?)*)\s*(?:#.*)?"
)


def entries(text: str) -> dict[str, str]:
    """The first pronunciation of each word in CMU's `text`, ARPAbet phones between single spaces.

    **Raises:** `SystemExit` for a line that is neither an entry nor a remark.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith((";;;", "#")):
            continue
        entry = LINE.fullmatch(line.strip())
        if entry is None:
            raise SystemExit(f"line {number} is no entry such as 'word W ER1 D': {line[:60]!r}")
        if not entry["variant"]:
            found.setdefault(entry["word"].lower(), " ".join(entry["phones"].split()))
    return found


def pack(text: str) -> bytes:
    """What `jaxvoice.text.dictionary` reads: sorted lines `word PH0 PH1 ...`, compressed."""
    lines = sorted(f"{word} {phones}\n".encode() for word, phones in entries(text).items())
    return gzip.compress(b"".join(lines), 9, mtime=0)


def decoded(content: bytes) -> str:
    """The text of a file that is UTF-8, or Latin-1 as in the older releases."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def main(source: tyro.conf.Positional[Path], out: Path = Path("jaxvoice/text/data/cmudict.txt.gz")) -> None:
    """Read, sort, compress and write."""
    packed = pack(decoded(source.read_bytes()))
    out.write_bytes(packed)
    words = gzip.decompress(packed).count(b"\n")
    print(f"{out}: {words} words, {len(packed) / 1e3:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
