"""Strictness for every test: no silent promotion, no warning, and several devices to be parallel on."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Of several test processes, each gets its share of the cores: torch's threads wait busily for one another.
PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // PROCESSES)))
if PROCESSES > 1 and hasattr(os, "sched_setaffinity"):
    # XLA's threads wait busily too: two processes that both use all cores take more than twice as long.
    cores, number = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    os.sched_setaffinity(0, cores[number::PROCESSES] or cores[number % len(cores) :][:1])
os.environ.setdefault("NUMBA_OPT", "0")
if PROCESSES > 1:
    # librosa's compiled functions are cached beside it; two processes that write them at once leave files that crash.
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxvoice-numba-")
    atexit.register(shutil.rmtree, os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)
# Most of the time goes into compiling: LLVM's optimisations and the emitters of fused kernels take three quarters of
# it, and change rounding only. A program in one part instead of many takes 11 to 24 % less time on one core. An
# unknown flag ends the process, so the last two are given where they were tried.
_HASTE = ["--xla_backend_optimization_level=0"]
if jax.__version_info__ < (0, 11):
    _HASTE += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(_HASTE))
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from jaxvoice.training import parallel  # noqa: E402 - after the settings above
from jaxvoice.training.process import return_freed_memory  # noqa: E402

MEMORY = 2 * 2**30
"""Bytes of this process above which compiled programs are dropped within a module too."""


def _forget_compiled_programs() -> None:
    jax.clear_caches()
    return_freed_memory()


def _memory() -> int:
    """Bytes of this process; 0 where the system has no file that says so."""
    file = Path("/proc/self/statm")
    return int(file.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if file.exists() else 0


@pytest.fixture(scope="module", autouse=True)
def _programs_of_a_module():
    """Drop the compiled programs of a module with it: those of all modules together take six gigabytes."""
    yield
    _forget_compiled_programs()


@pytest.fixture(autouse=True)
def _large_programs():
    yield
    if _memory() > MEMORY:
        _forget_compiled_programs()


@pytest.fixture
def key() -> jax.Array:
    return jax.random.key(0)


@pytest.fixture
def one_device(monkeypatch):
    """Train on one of the eight devices, which halves compilation times."""
    mesh = parallel.data_mesh(jax.devices()[:1])
    monkeypatch.setattr(parallel, "data_mesh", lambda: mesh)


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """Folder of real corpora (`LJSpeech-1.1`, `vctk`); tests that ask for it are skipped where it is missing."""
    root = Path(os.environ.get("JAXVOICE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "LJSpeech-1.1" / "metadata.csv").exists():
        pytest.skip(f"real clips not found under {root}; set JAXVOICE_DATA to a folder holding LJSpeech-1.1")
    return root
