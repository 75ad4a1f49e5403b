import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.training.checkpoints import Checkpoints
from jaxvoice.training.parallel import data_mesh, replicate, replicated


def arrays(step):
    key = jax.random.key(step)
    weight = jax.random.normal(key, (200, 50)) + step
    half = jnp.full((7,), step, jnp.bfloat16)
    return replicate({"w": weight, "half": half, "key": key, "step": jnp.array(step, jnp.int32)}, data_mesh())


def plain(tree):
    return {
        name: np.asarray(jax.random.key_data(x) if name == "key" else x).astype(np.float64) for name, x in tree.items()
    }


def abstract():
    everywhere = replicated(data_mesh())
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere) for name, x in arrays(0).items()}


def store(folder, keep_last=2):
    return Checkpoints(folder, keep_last=keep_last)


def write(folder, steps, keep_last=2, best=()):
    """Checkpoints of `steps`; those in `best` are the best so far, which is known after they are written."""
    with store(folder, keep_last) as checkpoints:
        for step in steps:
            checkpoints.save(step, arrays(step), {"note": f"n{step}"})
            if step in best:
                checkpoints.set_best(step)
    return folder


def read(folder, said=None):
    with store(folder) as checkpoints:
        return checkpoints.restore(abstract(), lambda meta: None, (said if said is not None else []).append)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return write(tmp_path_factory.mktemp("two") / "checkpoints", [10, 20])


def test_restore_returns_the_saved_arrays_and_table(two):
    restored = read(two)
    assert (restored.step, restored.meta["note"]) == (20, "n20")
    for name, found in plain(restored.arrays).items():
        np.testing.assert_array_equal(found, plain(arrays(20))[name])
    assert restored.arrays["half"].dtype == jnp.bfloat16
    assert jnp.issubdtype(restored.arrays["key"].dtype, jax.dtypes.prng_key)
    assert restored.arrays["w"].sharding == replicated(data_mesh())


@pytest.mark.parametrize(("best", "kept"), [((1, 2), [2, 4, 5]), ((1,), [1, 4, 5]), ((5,), [4, 5]), ((), [4, 5])])
def test_last_two_and_best_checkpoints_are_kept(tmp_path, best, kept):
    write(tmp_path / "c", range(1, 6), best=best)
    with store(tmp_path / "c") as checkpoints:
        assert checkpoints.steps() == kept


def test_best_checkpoint_is_kept_after_a_restart(tmp_path):
    write(tmp_path / "c", [1, 2], best=[1])
    with store(tmp_path / "c") as checkpoints:
        checkpoints.set_best(1)
        for step in (3, 4, 5):
            checkpoints.save(step, arrays(step), {})
    with store(tmp_path / "c") as checkpoints:
        assert checkpoints.steps() == [1, 4, 5]


def test_former_best_checkpoint_is_deleted(tmp_path):
    with store(tmp_path / "c") as checkpoints:
        for step in range(1, 7):
            checkpoints.save(step, arrays(step), {})
            if step in (1, 5, 6):
                checkpoints.set_best(step)
            if step == 5:
                checkpoints.wait()
                assert checkpoints.steps() == [4, 5]
        checkpoints.wait()
        assert checkpoints.steps() == [5, 6]


def test_save_copies_arrays_before_donation(tmp_path):
    grow = jax.jit(lambda tree: {**tree, "w": tree["w"] + 1.0}, donate_argnums=0)
    state = arrays(0)
    first = plain(state)
    with store(tmp_path / "c") as checkpoints:
        checkpoints.save(1, state, {})
        for _ in range(20):
            state = grow(state)
    np.testing.assert_array_equal(plain(read(tmp_path / "c").arrays)["w"], first["w"])


def biggest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder):
    path = biggest(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(folder):
    path = biggest(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove_arrays(folder):
    shutil.rmtree(folder / "state")


def cut_table(folder):
    (folder / "meta" / "metadata").write_text('{"step": 2')


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE = {
    truncate: "its arrays cannot be read",
    flip_a_bit: "1 of 4 arrays differ from their checksums",
    remove_arrays: "files are missing",
    cut_table: "its file meta/metadata is not valid JSON",
    empty: "files are missing",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_restore_skips_damaged_checkpoints(two, tmp_path, damage):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    damage(folder / "20")
    said = []
    restored = read(folder, said)
    assert restored.step == 10
    np.testing.assert_array_equal(plain(restored.arrays)["w"], plain(arrays(10))["w"])
    assert said[0] == f"Checkpoint 20 in {folder} is damaged: {DAMAGE[damage]}. Trying the previous one."
    assert (tmp_path / "damaged" / "20").is_dir()
    write(folder, [20])
    assert read(folder).step == 20


@pytest.mark.parametrize(
    "failure",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
        OSError(errno.EIO, "Input/output error"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
    ],
)
def test_temporary_errors_are_not_damage(two, tmp_path, failure, monkeypatch):
    folder = shutil.copytree(two, tmp_path / "run" / "checkpoints")

    def fail(*arguments):
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_read", fail)
        with pytest.raises(CheckpointError, match=r"Checkpoint 20 .* cannot be read .*does not indicate damage"):
            read(folder)
    assert not (tmp_path / "run" / "damaged").exists()
    assert read(folder).step == 20


def test_restore_raises_if_processes_read_different_steps(two, tmp_path, monkeypatch):
    folder = shutil.copytree(two, tmp_path / "run" / "checkpoints")
    monkeypatch.setattr("jaxvoice.training.checkpoints.in_every_process", lambda step: [step, 10])
    with pytest.raises(CheckpointError, match=r"different steps .*\[20, 10\]"):
        read(folder)


def test_read_only_restore_changes_nothing(two):
    code = "import sys, pathlib; from jaxvoice.training.checkpoints import Checkpoints as C\n"
    code += "with C(pathlib.Path(sys.argv[1]), keep_last=1, read_only=True): pass"
    done = subprocess.run([sys.executable, "-c", code, str(two)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_restore_raises_if_all_checkpoints_are_damaged(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    truncate(folder / "10")
    flip_a_bit(folder / "20")
    with pytest.raises(CheckpointError, match=r"(?s)Every checkpoint in .*20: .*10: .*another run folder"):
        read(folder)
    assert (folder / "10").is_dir() and (folder / "20").is_dir()


def test_restore_raises_errors_of_accept(two):
    def refuse(meta):
        raise CheckpointError(f"not {meta['note']}")

    with pytest.raises(CheckpointError, match="not n20"), store(two) as checkpoints:
        checkpoints.restore(abstract(), refuse)


def test_restore_lists_other_arrays(two):
    wanted = abstract()
    wanted["extra"] = wanted.pop("half")
    wanted["w"] = jax.ShapeDtypeStruct((50, 200), jnp.float32)
    with pytest.raises(CheckpointError) as failure, store(two) as checkpoints:
        checkpoints.restore(wanted, lambda meta: None)
    for line in ("+ extra", "- half", "! w: float32[200, 50] stored, float32[50, 200] wanted"):
        assert line in str(failure.value)


def test_remains_of_a_killed_save_are_deleted(two, tmp_path):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    for name in ("30.orbax-checkpoint-tmp", "40.orbax-checkpoint-tmp-1700000000000000"):  # of newer and older Orbax
        shutil.copytree(folder / "20", folder / name)
    with Checkpoints(folder, keep_last=2, read_only=True) as checkpoints:
        assert checkpoints.steps() == [10, 20]
    assert len(list(folder.iterdir())) == 4
    with store(folder) as checkpoints:
        assert sorted(path.name for path in folder.iterdir()) == ["10", "20"]
        assert checkpoints.steps() == [10, 20]
    assert read(folder).step == 20


@pytest.mark.parametrize("left", ["state", "meta", "_CHECKPOINT_METADATA", "nothing"])
def test_remains_of_a_killed_deletion_are_ignored(two, tmp_path, left):
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    write(folder, [30])
    old = shutil.copytree(two / "20", tmp_path / "old")
    for entry in old.iterdir():
        if entry.name != left:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for path in [path for path in old.rglob("*") if path.is_file() and path.parent != old][::2]:
        path.unlink()
    old.rename(folder / "15")
    assert read(folder).step == 30
    write(folder, [40, 50, 60], best=[40])
    assert read(folder).step == 60
    with store(folder) as checkpoints:
        assert checkpoints.steps() == [40, 50, 60]


def test_restore_returns_none_without_checkpoints(tmp_path):
    assert read(tmp_path / "new") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file"):
        read(tmp_path / "file")


def test_full_disk_raises_an_error_and_keeps_older_checkpoints(two, tmp_path):
    resource = pytest.importorskip("resource")
    folder = shutil.copytree(two, tmp_path / "checkpoints")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))  # the array alone needs 40 kB
        with pytest.raises(CheckpointError, match=r"could not be written.*--resume auto.*10, 20"), store(folder) as c:
            c.save(30, arrays(30), {})
            c.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read(folder).step == 20


FULL_DISK = """if True:
    import resource, signal, sys
    from pathlib import Path
    import jax.numpy as jnp
    from jaxvoice.console import run_command
    from jaxvoice.training.checkpoints import Checkpoints

    def action():
        with Checkpoints(Path(sys.argv[1]), keep_last=2) as checkpoints:
            checkpoints.save(1, {f"w{i}": jnp.sin(jnp.arange(20_000.0) * i) for i in range(100)}, {})
            checkpoints.wait()

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    sys.exit(run_command(action, name="train", debug=False))
"""


def test_full_disk_prints_one_error(tmp_path):
    """Many arrays fail at the same time, and each is a task of asyncio."""
    pytest.importorskip("resource")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "c")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(
        r"train: error: A checkpoint could not be written to .* \(a file is larger than the system allows\)\. Free .*: "
        r"none\.\n",
        done.stderr,
    )
