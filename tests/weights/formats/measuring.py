"""Recording of imports, calls and file accesses, and measurement of time and memory for hostile files. Linux only.

The script takes a working folder. It prints a JSON object of seconds and bytes of memory by title of the case.
"""

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxvoice.errors import CheckpointError
from jaxvoice.weights.formats import open_archive
from tests.weights.formats.forge import sound
from tests.weights.formats.hostile import CASES

_WATCHED = re.compile(
    r"import|exec|os\..*|subprocess.*|socket.*|ctypes.*|shutil.*|pty.*|code\..*|pickle.*|webbrowser.*|open"
)
_ALLOWED = re.compile(r"open (.*/file\.pt|.*/tmp[^/]*|/tmp|.*temp.*)", re.IGNORECASE)
_logs: list[list[str]] = []
_hooked: list[bool] = []


def _watch(event: str, args: tuple[object, ...]) -> None:
    if _logs and _WATCHED.fullmatch(event):
        told = f"{event} {args[0] if args else ''}"
        if not _ALLOWED.fullmatch(told):
            _logs[-1].append(told)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Record the audit events of imports, calls and opened files, except the weight file and temporary files."""
    if not _hooked:
        sys.addaudithook(_watch)  # there is no way to take it away again
        _hooked.append(True)
    seen: list[str] = []
    _logs.append(seen)
    try:
        yield seen
    finally:
        _logs.remove(seen)


def _memory(field: str) -> int:
    """Memory of this process in bytes: `VmRSS`, current, or `VmHWM`, the maximum since the last reset."""
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) * 1024


def main(folder: Path) -> None:
    """Measure all cases."""
    results = {}
    file = folder / "file.pt"
    for raw in sound().values():
        file.write_bytes(raw)
        open_archive(file).close()
    for title, case in CASES.items():
        file.write_bytes(case.make())
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        before, start = _memory("VmRSS"), time.process_time()
        try:
            open_archive(file).tensors["weight"]
        except CheckpointError:
            seconds = time.process_time() - start
            size = file.stat().st_size
            results[title] = {"seconds": seconds, "grown": _memory("VmHWM") - before, "size": size}
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
