"""Write the pronouncing dictionary of jaxvoice from the text file of the CMU Pronouncing Dictionary.

    python -m experiments.pack_dictionary cmudict.dict [--out jaxvoice/text/data/cmudict.txt.gz]

Both formats that CMU publishes are read: `cmudict.dict` of github.com/cmusphinx/cmudict (lower case, variants as
`word(2)`, comments after `#`), the source of the shipped file, and the older `cmudict-0.7b` (upper case, variants as
`WORD(1)`, comments after `;;;`, Latin-1). The first pronunciation of each word is kept, in lower case. The lines are
sorted by their bytes and compressed without a time stamp, so that the same text results in the same file.
"""

import gzip
import re
from pathlib import Path

import tyro

ENTRY = re.compile(
    r"(?P<word>\S+?)(?P<variant>\(\d+\))?\s+(?P<phones>[A-Z]{1,2}[0-2]?(?:\s+[A-Z]{1,2}[0-2]?)*)\s*(?:#.*)?"
)


def read_entries(text: str) -> dict[str, str]:
    """Read the first pronunciation of each word in CMU's `text`: ARPAbet phones separated by single spaces.

    **Raises:** `SystemExit` for a line that is neither an entry nor a comment.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith((";;;", "#")):
            continue
        entry = ENTRY.fullmatch(line.strip())
        if entry is None:
            raise SystemExit(f"line {number} is not an entry such as 'word W ER1 D': {line[:60]!r}")
        if not entry["variant"]:
            found.setdefault(entry["word"].lower(), " ".join(entry["phones"].split()))
    return found


def pack_entries(text: str) -> bytes:
    """Compress the entries to the format of `jaxvoice.text.dictionary`: sorted lines `word PH0 PH1 ...`."""
    lines = sorted(f"{word} {phones}\n".encode() for word, phones in read_entries(text).items())
    return gzip.compress(b"".join(lines), 9, mtime=0)


def decode_text(content: bytes) -> str:
    """Decode UTF-8, or Latin-1 as in older releases."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def main(source: tyro.conf.Positional[Path], out: Path = Path("jaxvoice/text/data/cmudict.txt.gz")) -> None:
    """Read, sort, compress and write the dictionary."""
    packed = pack_entries(decode_text(source.read_bytes()))
    out.write_bytes(packed)
    words = gzip.decompress(packed).count(b"\n")
    print(f"{out}: {words} words, {len(packed) / 1e3:.0f} kB")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.pack_dictionary", description=__doc__)
