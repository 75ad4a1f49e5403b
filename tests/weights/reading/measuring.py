"""Opens every hostile file in this process, watched: what Python did meanwhile, seconds, and memory. Linux only.

Run as a program with a folder to work in; prints a JSON object by title of the case.
"""

import json
import re
import sys
import time
from pathlib import Path

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.reading import open_archive
from tests.weights.reading.forge import sound
from tests.weights.reading.hostile import CASES

_WATCHED = re.compile(
    r"import|exec|os\..*|subprocess.*|socket.*|ctypes.*|shutil.*|pty.*|code\..*|pickle.*|webbrowser.*|open"
)
_seen: list[str] = []


def _watch(event: str, args: tuple) -> None:
    if _WATCHED.fullmatch(event):
        _seen.append(f"{event} {args[0]}" if args else event)


def _memory(field: str) -> int:
    """Bytes of this process, `VmRSS` now or `VmHWM` at most since the last reset."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def main(folder: Path) -> None:
    """Measure all cases."""
    results = {}
    file = folder / "file.pt"
    for raw in sound().values():
        file.write_bytes(raw)
        open_archive(file).close()
    sys.addaudithook(_watch)
    for title, case in CASES.items():
        file.write_bytes(case.make())
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        _seen.clear()
        start = time.perf_counter()
        try:
            open_archive(file).tensors["weight"]
            outcome = "read"
        except CheckpointError as refused:
            outcome = type(refused).__name__
        except Exception as failure:
            outcome = repr(failure)
        seconds, seen = time.perf_counter() - start, list(_seen)
        grown = _memory("VmHWM") - before
        results[title] = {"outcome": outcome, "seconds": seconds, "grown": grown, "seen": seen}
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
