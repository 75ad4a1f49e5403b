import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvoice.errors import ConfigError
from jaxvoice.training.compiled_step import CompiledStep
from jaxvoice.training.parallel import (
    check_batch_size,
    data_mesh,
    gather,
    on_one_device,
    place,
    replicate,
    shard_batch,
    split_parameters,
)
from jaxvoice.training.training_state import Skeleton
from training.toy import ToyConfig, ToyLoader, ToyTask, logged, one_device, train


def steps_on(mesh, count=3):
    """The state and metrics after `count` steps on `mesh`, as numpy."""
    task, loader = ToyTask(), ToyLoader(16)
    state = task.init(key=jax.random.key(1))
    skeleton = Skeleton(state)
    leaves = replicate(skeleton.flatten(state), mesh)
    program, codes = CompiledStep(task, skeleton, mesh), shard_batch(np.zeros(mesh.size, np.int32), mesh)
    for _ in range(count):
        leaves, metrics, _ = program(leaves, shard_batch(next(loader), mesh), codes)
    assert {leaf.sharding.num_devices for leaf in leaves} == {mesh.size}
    numbers = [leaf for leaf in on_one_device(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return [np.asarray(x) for x in numbers], {name: float(value) for name, value in metrics.items()}


def test_step_on_eight_devices_equals_step_on_one():
    assert jax.device_count() == 8
    # A plain mesh has an explicit axis.
    many, many_metrics = steps_on(jax.make_mesh((8,), ("data",)))
    one, one_metrics = steps_on(one_device())
    for name in one_metrics:
        assert many_metrics[name] == pytest.approx(one_metrics[name], rel=1e-5)
    for left, right in zip(many, one, strict=True):
        assert np.abs(left - right).max() <= 1e-5 * max(np.abs(right).max(), 1e-3)
    other, _ = steps_on(one_device(), count=4)
    assert max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)) > 1e-3


def test_batch_is_split_and_state_is_whole_on_every_device():
    mesh = data_mesh()
    batch = shard_batch({"x": np.arange(32.0, dtype=np.float32).reshape(16, 2), "missing": None}, mesh)
    assert [shard.data.shape for shard in batch["x"].addressable_shards] == [(2, 2)] * 8
    np.testing.assert_array_equal(np.concatenate([s.data for s in batch["x"].addressable_shards]), batch["x"])
    state = replicate({"w": jnp.ones((3, 2)), "key": jax.random.key(0)}, mesh)
    assert [shard.data.shape for shard in state["w"].addressable_shards] == [(3, 2)] * 8


def test_state_is_split_along_the_largest_divisible_axis():
    mesh = data_mesh()
    shapes = {(16, 1000): (16, 125), (999, 16): (999, 2), (8, 8): (8, 8), (1001, 3): (1001, 3), (64, 64): (8, 64)}
    arrays = [jnp.arange(float(np.prod(shape))).reshape(shape) for shape in shapes]
    placed = place(arrays, mesh, shard=True)
    assert [array.addressable_shards[3].data.shape for array in placed] == list(shapes.values())
    for array, whole in zip(arrays, on_one_device(placed), strict=True):
        np.testing.assert_array_equal(array, whole)
        assert whole.devices() == {jax.devices()[0]}
    copied = place(arrays, mesh, shard=False)
    assert all(array.is_fully_replicated for array in copied)


def test_gradients_of_gathered_parameters_are_split():
    mesh, weight = data_mesh(), jnp.ones((64, 24))
    params = {"w": weight, "none": None}
    assert gather(params)["w"] is weight  # without the context of a step
    (split,) = place([weight], mesh, shard=True)

    @jax.jit
    def gradient(w):
        whole = gather({"w": w})["w"]
        return whole, jax.grad(lambda x: jnp.sum(jnp.sin(gather({"w": x})["w"])))(w)

    with split_parameters(mesh):
        whole, found = gradient(split)
    assert whole.is_fully_replicated
    assert [shard.data.shape for shard in found.addressable_shards] == [(8, 24)] * 8
    np.testing.assert_allclose(found, np.cos(weight), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("count", [8, 1])
def test_sharded_run_equals_replicated_run_and_resumes_on_other_devices(count, tmp_path):
    task = ToyTask(ToyConfig(width=512))
    train(tmp_path / "replicated", task=task, steps=6)
    train(tmp_path / "split", task=task, steps=3, shard_parameters=True)
    mesh = data_mesh(jax.devices()[:count])
    train(tmp_path / "split", task=task, steps=6, shard_parameters=count == 8, mesh=mesh, resume="must")
    for step, line in logged(tmp_path / "replicated").items():
        assert logged(tmp_path / "split")[step]["student"] == pytest.approx(line["student"], rel=1e-4)


@pytest.mark.parametrize("devices", [1, 8])
def test_replicas_share_no_buffer(devices):
    shared = jnp.ones(1000)
    left, right = replicate((shared, shared), data_mesh(jax.devices()[:devices]))
    places = [{s.data.unsafe_buffer_pointer() for s in array.addressable_shards} for array in (left, right, shared)]
    assert not places[0] & places[1] and not places[0] & places[2] and not places[1] & places[2]


@pytest.mark.parametrize(("size", "fix"), [(12, "to 8 or 16"), (3, "to 8"), (0, "to 8")])
def test_error_for_a_batch_size_states_multiples(size, fix):
    with pytest.raises(ConfigError, match=rf"batch_size is {size}; .*devices, 8\. Set it {fix}\."):
        check_batch_size(size, data_mesh())
    check_batch_size(24, data_mesh())
