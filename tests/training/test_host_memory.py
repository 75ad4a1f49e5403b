"""Processes keep the memory that they free."""

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="page faults are counted on Unix alone")

PROGRAM = """
import resource, sys
import numpy as np
from jaxvoice.training.process import keep_freed_memory, return_freed_memory

kept = sys.argv[1] == "keep" and keep_freed_memory()

def touch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.full(2**25, 1.0)  # 256 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

touch()
if sys.argv[2:] == ["return"]:
    return_freed_memory()
print(int(kept), touch())
"""


def faults(*arguments: str) -> tuple[int, int]:
    result = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True)
    kept, count = result.stdout.split()
    return int(kept), int(count)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="the setting is one of the GNU C library; elsewhere nothing is changed"
)
def test_freed_memory_is_reused_without_new_pages():
    kept, count = faults("keep")
    if not kept:
        pytest.skip("another C library than GNU's")
    _, without = faults("leave")
    assert count < 16 < without
    _, returned = faults("keep", "return")
    assert returned > 16, "what was given back has to be asked for again"
