"""Arrays that steps read and never change, and warnings about the metrics of a step."""

import re
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp

from jaxvoice.training.checkpoints import read_state
from jaxvoice.training.compiled_step import CompiledStep
from jaxvoice.training.parallel import replicate, shard_batch
from jaxvoice.training.training_state import Skeleton, array_names
from training.toy import ToyLoader, ToyTask, logged, one_device, train


class ConstantTask(ToyTask):
    """A toy task that logs the sum of a constant, and warns if it is zero."""

    def __init__(self, value=2.0):
        super().__init__()
        self.constants: Any = {"weights": jnp.full(1237, value), "name": "not an array"}

    def step(self, state, batch, *, key, phase, constants=None):
        assert constants is not None
        assert constants["name"] == "not an array"
        state, metrics = super().step(state, batch, key=key, phase=phase)
        return state, {**metrics, "constant": jnp.sum(constants["weights"])}

    def warnings(self, metrics):
        return [] if metrics["constant"] else ["the constant is zero"]


ConstantTask.__name__ = "ToyTask"


def test_steps_read_constants_and_do_not_donate_them(tmp_path, capsys):
    task = ConstantTask()
    train(tmp_path / "run", task=task, mesh=one_device(), steps=3)
    assert [line["constant"] for line in logged(tmp_path / "run").values()] == [2 * 1237] * 3
    np.testing.assert_array_equal(task.constants["weights"], np.full(1237, 2.0))
    assert "warning" not in capsys.readouterr().out
    leaves = jax.tree.leaves(read_state(tmp_path / "run", task))
    assert leaves and all(np.shape(leaf) != (1237,) for leaf in leaves)


def test_constants_are_arguments_of_the_program():
    task, mesh = ConstantTask(), one_device()
    state = task.init(key=jax.random.key(0))
    skeleton = Skeleton(state)
    step = CompiledStep(task, skeleton, mesh)
    leaves, batch = replicate(skeleton.flatten(state), mesh), shard_batch(ToyLoader().rows(0), mesh)
    codes = shard_batch(np.zeros(1, np.int32), mesh)
    text = str(step.compile(leaves, batch, codes).as_text())
    assert re.search(r"f32\[1237\]\S* parameter", text)
    assert not any("weights" in name for name in array_names(state))
    for _ in range(2):  # donated arrays could be used once only
        leaves, metrics, _ = step(leaves, batch, codes)
    assert float(metrics["constant"]) == 2 * 1237


def test_warnings_are_printed(tmp_path, capsys):
    train(tmp_path / "run", task=ConstantTask(0.0), mesh=one_device(), steps=2)
    printed = capsys.readouterr().out
    assert "warning at step 1: the constant is zero" in printed and "warning at step 2" in printed


def test_folders_inside_the_model_folder_are_replaced(tmp_path):
    class WithPart(ToyTask):
        def save_model(self, state, folder):
            super().save_model(state, folder)
            (folder / "part").mkdir()
            (folder / "part" / f"step{int(state.counters.step)}").touch()

    WithPart.__name__ = "ToyTask"
    task = WithPart(scores=(2.0, 1.0))
    train(tmp_path / "run", task=task, mesh=one_device(), steps=4, validate_every=2)
    assert [path.name for path in (tmp_path / "run" / "model" / "part").iterdir()] == ["step4"]
