"""What the C library does with memory that a training step gives back."""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, for the next training step: call it before anything else uses JAX.

    On a CPU, XLA asks for a step's working memory anew at every step. The GNU C library returns blocks that large to
    the system, which has to clear every page again: a third of the time of a HiFi-GAN step with two crops. Afterwards
    the process' memory no longer shrinks.

    Returns whether it took effect; C libraries other than GNU's have no such setting and are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    # One arena: only the main one can grow by more than 64 MiB without asking for a mapping of its own.
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
    return all([ctypes.CDLL(None).mallopt(name, value) == 1 for name, value in settings])


def return_freed_memory() -> None:
    """Give what is freed at this moment back to the system, where the C library is GNU's.

    After compiling, this is a gigabyte that the steps would otherwise leave where it is and ask for more.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
