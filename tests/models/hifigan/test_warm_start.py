"""Training continued from `g_` and `do_` files, compared with torch: losses, weights, moments, learning rates."""

import json
import math
import shutil
from typing import Any

import jax
import numpy as np
import optax
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from experiments.benchmarks.torch_hifigan import (
    PRESETS,
    Generator,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    arrays_of,
)
from experiments.benchmarks.torch_training import LogMel, Trainer as TorchTrainer
from jaxvoice.config import from_dict, to_dict
from jaxvoice.data import CropBatch
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig
from jaxvoice.models.hifigan.warm_start import continued_config, continued_state
from jaxvoice.pipelines.importing import import_model
from jaxvoice.training.optimizers import OptimizerConfig, decays_to, learning_rate
from jaxvoice.weights import named_arrays
from tests.models.hifigan.released import CONFIG as RELEASED, folded, under, write
from tests.models.hifigan.trainer import Trainer

TINY: dict[str, Any] = {
    "resblock": "1",
    "upsample_rates": (16, 16),
    "upsample_kernel_sizes": (32, 32),
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1, 3),),
}
CONFIG = {**RELEASED, **TINY}
COLUMNS = ("disc_period", "disc_scale", "adv_period", "adv_scale", "feature_period", "feature_scale")


def torch_trainer(config=None, *, small=True):
    torch.manual_seed(0)
    judges = {"width": 1 / 16} if small else {}
    mpd = MultiPeriodDiscriminator((2,), **judges) if small else MultiPeriodDiscriminator()
    msd = MultiScaleDiscriminator(2 if small else 3, **judges)
    return TorchTrainer(Generator(**(TINY if config is None else config)), mpd, msd, lr_decay=0.99)


def batches(count, examples=2):
    noise, mel = torch.Generator().manual_seed(1), LogMel()
    for _ in range(count):
        audio = torch.rand((examples, 1, 8192), generator=noise) * 0.6 - 0.3
        yield mel(audio[:, 0]), audio


def save(trainer, folder, *, step, epoch, legacy=True, config=CONFIG):
    """The files of the released script, with update counts as numbers, as older versions of torch write them."""
    content = {name: getattr(trainer, name).state_dict() for name in ("mpd", "msd", "optim_g", "optim_d")}
    if legacy:
        for name in ("optim_g", "optim_d"):
            states = content[name]["state"].items()
            content[name]["state"] = {number: {**one, "step": int(one["step"])} for number, one in states}
    write(folder / f"do_{step:08d}", {**content, "steps": step, "epoch": epoch}, legacy=legacy)
    return write(folder / f"g_{step:08d}", {"generator": trainer.generator.state_dict()}, config, legacy=legacy)


def assert_same_training(trainer, folder, upcoming, tolerance=1e-4):
    """Training steps in jaxvoice and in torch, from the same files."""
    program = Trainer(continued_config(folder))
    state = continued_state(program.task, folder)
    for mel, audio in upcoming:
        theirs = trainer.step(mel, audio)
        batch = CropBatch(audio[:, 0].numpy(), np.ones(len(audio), np.float32), mel.numpy())
        (state,), (metrics,) = program(state, batch)
        for name in COLUMNS:
            np.testing.assert_allclose(metrics[name], theirs[name].item(), rtol=tolerance, err_msg=name)
        np.testing.assert_allclose(45 * metrics["mel_l1"], theirs["mel_times_45"].item(), rtol=tolerance)
    networks = {
        "generator": (trainer.generator, named_arrays(state.generator.model)),
        "mpd": (trainer.mpd, named_arrays(state.discriminators.model.mpd)),
        "msd": (
            trainer.msd,
            named_arrays(state.discriminators.model.msd) | named_arrays(state.discriminators.model_state),
        ),
    }
    for name, (theirs, ours) in networks.items():
        expected = arrays_of(theirs)
        assert ours.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_allclose(ours[key], array, atol=tolerance, err_msg=f"{name} {key}")
    return state


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The state after three steps of torch, with the end of an epoch after the second."""
    trainer, folder = torch_trainer(), tmp_path_factory.mktemp("cp")
    for number, batch in enumerate(batches(3)):
        trainer.step(*batch)
        if number == 1:
            trainer.end_epoch()
    save(trainer, folder, step=2, epoch=1)
    return trainer, folder


@pytest.fixture
def trained(files, tmp_path):
    """The trainer, the files, and the model folder imported from them."""
    trainer, folder = files
    source = tmp_path / "cp"
    shutil.copytree(folder, source)
    import_model(source / "g_00000002", tmp_path / "model")
    return trainer, tmp_path / "model"


def adam_of(state):
    (found,) = [part for part in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(part)]
    return found


def _is_adam(part):
    return isinstance(part, optax.ScaleByAdamState)


@pytest.mark.slow
def test_continued_training_equals_torch(tmp_path):
    trainer, upcoming = torch_trainer(), batches(3)
    for _ in range(2):
        trainer.step(*next(upcoming))
    trainer.end_epoch()
    import_model(save(trainer, tmp_path / "cp", step=1, epoch=1), tmp_path / "model")
    state = assert_same_training(trainer, tmp_path / "model", upcoming)
    assert int(state.counters.step) == 3


def test_moments_step_counts_and_rates_equal_torch(trained):
    trainer, folder = trained
    config = continued_config(folder)
    task = HiFiGANTask(config, steps_per_epoch=50)
    state = continued_state(task, folder)
    assert int(state.counters.step) == 3
    # The order in which torch numbers the parameters.
    for optimizer, mine, modules in (
        (trainer.optim_g, state.generator.optimizer_state, [("", trainer.generator)]),
        (trainer.optim_d, state.discriminators.optimizer_state, [("msd.", trainer.msd), ("mpd.", trainer.mpd)]),
    ):
        adam = adam_of(mine)
        assert int(adam.count) == 3
        names = [prefix + name for prefix, module in modules for name, _ in module.named_parameters()]
        moments = optimizer.state_dict()["state"]
        assert len(names) == len(moments)
        for ours, kind in ((named_arrays(adam.mu), "exp_avg"), (named_arrays(adam.nu), "exp_avg_sq")):
            for number, name in enumerate(names):
                np.testing.assert_array_equal(ours[name], moments[number][kind].numpy(), err_msg=f"{kind} {name}")
        counts = [part for part in jax.tree.leaves(mine, is_leaf=_is_count) if _is_count(part)]
        rate = learning_rate(config.generator_optimizer, steps_per_epoch=50)(counts[0].count)
        np.testing.assert_allclose(rate, optimizer.param_groups[0]["lr"], rtol=1e-6)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-4 * 0.99)


def _is_count(part):
    return isinstance(part, optax.ScaleByScheduleState)


def test_training_settings_are_read_from_the_files(trained, tmp_path):
    _, folder = trained
    config = continued_config(folder)
    assert config.generator_optimizer == OptimizerConfig(decay=0.99)
    assert config.model.discriminators.periods == (2,) and config.model.discriminators.width == 1 / 16
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))["info"]["training"]
    assert (about["steps"], about["epoch"], about["generator"]["updates"]) == (2, 1, 3)
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "| optim_d.state.0.exp_avg | discriminators.exp_avg.msd.discriminators.0.convs.0.bias |" in text


@pytest.mark.parametrize("how", ["zip", "module", "other place"])
def test_equivalent_training_files_give_the_same_state(trained, tmp_path, how):
    trainer, folder = trained
    source = save(trainer, tmp_path / how, step=2, epoch=1, legacy=False)
    do = source.with_name("do_00000002")
    training = None
    if how == "module":
        content = torch.load(do, weights_only=True)
        write(do, {**content, **{name: under("module.", content[name]) for name in ("mpd", "msd")}})
    elif how == "other place":
        training = do.rename(tmp_path / "elsewhere")
    import_model(source, tmp_path / "again", training=training)
    same = [(path / "training.safetensors").read_bytes() for path in (folder, tmp_path / "again")]
    assert same[0] == same[1]


def test_rates_decay_by_the_number_of_epochs():
    config = OptimizerConfig(decay=0.999)
    rate = 2e-4 * 0.999**3100
    count = decays_to(rate, config, steps_per_epoch=809)
    assert count == 3100 * 809
    np.testing.assert_allclose(learning_rate(config, steps_per_epoch=809)(count), rate, rtol=1e-4)
    assert decays_to(1e-3, config, steps_per_epoch=809) == 0
    assert decays_to(rate, OptimizerConfig(schedule="constant"), steps_per_epoch=809) == 0


def test_different_networks_raise_an_error(trained):
    _, folder = trained
    config = to_dict(continued_config(folder))
    config["model"]["discriminators"]["scales"] = 3
    task = HiFiGANTask(from_dict(TrainingConfig, config), steps_per_epoch=5)
    with pytest.raises(CheckpointError, match=r"--model\.discriminators\.scales: 2 != 3"):
        continued_state(task, folder)


def test_folders_without_training_state_raise_an_error(trained, tmp_path):
    _, folder = trained
    (folder / "training.safetensors").rename(folder / "moved")
    with pytest.raises(CheckpointError, match="--init-from"):
        continued_config(folder)
    (folder / "training.safetensors").write_bytes((folder / "moved").read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        continued_config(folder)


def test_generator_can_be_imported_without_training_state(trained, tmp_path):
    report = import_model(tmp_path / "cp" / "g_00000002", tmp_path / "alone", training=False)
    assert "training" not in report.info and not (tmp_path / "alone" / "training.safetensors").exists()


def drop(table, *path):
    for key in path[:-1]:
        table = table[key]
    del table[path[-1]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda do: drop(do, "optim_g", "state", 3), r"lacks optim_g\.state\.3\.step"),
        (
            lambda do: drop(do, "optim_g", "state", 3, "exp_avg"),
            r"lacks .* moments, for example optim_g\.state\.3\.exp_avg",
        ),
        (lambda do: drop(do, "optim_d"), "no optim_d"),
        (lambda do: drop(do, "epoch"), "lacks 'epoch'"),
        (lambda do: drop(do, "mpd", "discriminators.0.convs.2.bias"), r"- mpd\.discriminators\.0\.convs\.2\.bias"),
        (lambda do: drop(do, "msd", "discriminators.0.convs.2.weight_u"), r"without weight_u"),
        (lambda do: do["optim_g"]["param_groups"][0]["params"].pop(), "has 35 parameters; it should have 36"),
        (lambda do: do["optim_g"]["state"][5].update(step=8), r"different numbers of updates \(\[3, 8\]\)"),
        (lambda do: do["optim_d"]["state"].update({0: do["optim_d"]["state"][1]}), r"! .*has shape"),
        (lambda do: do.update(extra=torch.ones(2)), "do not belong in a do_ file: extra"),
        (lambda do: do["mpd"].update({"discriminators.0.convs.0.bias": torch.full((16,), torch.nan)}), "NaN"),
        (
            lambda do: do["optim_g"]["param_groups"][0].update(lr="fast"),
            r"do_00000002: optim_g\.param_groups\.0\.lr is 'fast'; it should be a number above 0",
        ),
    ],
)
def test_mismatched_training_files_raise_an_error(trained, tmp_path, damage, message):
    assert_training_import_raises(tmp_path, damage, message)


def assert_training_import_raises(tmp_path, damage, message):
    """The import of the damaged `do_` file raises an error and writes nothing."""
    do = tmp_path / "cp" / "do_00000002"
    content = torch.load(do, weights_only=True)
    damage(content)
    write(do, content)
    with pytest.raises(CheckpointError, match=message):
        import_model(tmp_path / "cp" / "g_00000002", tmp_path / "broken")
    assert not (tmp_path / "broken").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"cp", "model"}


def each(change, name="optim_g"):
    """Change the state of every parameter."""
    return lambda do: [state.update(change(state)) for state in do[name]["state"].values()]


def group(**change):
    return lambda do: do["optim_g"]["param_groups"][0].update(**change)


def two_groups(do):
    (first,) = do["optim_g"]["param_groups"]
    numbers = first["params"]
    do["optim_g"]["param_groups"] = [{**first, "params": numbers[:1]}, {**first, "lr": 9.0, "params": numbers[1:]}]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (two_groups, "optim_g in do_00000002 trains its parameters in 2 groups with different settings"),
        (group(lr=math.nan), r"param_groups\.0\.lr is nan; it should be a number above 0"),
        (group(lr=10**400), r"lr is a number of 1329 bits"),
        (group(lr=torch.tensor(1e-4)), r"lr is missing"),
        (group(initial_lr=-1.0), r"initial_lr is -1\.0"),
        (group(betas=(0.8, 0.99, 0.1)), r"betas is \[0\.8, 0\.99, 0\.1\]"),
        (group(betas=(0.8, 1.0)), "betas is"),
        (group(eps=True), "eps is True"),
        (group(weight_decay="\x1b[31m"), r"weight_decay is '.x1b"),
        (group(amsgrad=True), "amsgrad is True"),
        (group(params=[[0]] * 36), "should be a list of indices"),
        (group(params=[0] * 36), "has 1 parameters; it should have 36"),
        (group(params=None), "are None; they should be a list of indices"),
        (lambda do: do["optim_g"].update(param_groups={"a": 1}), r"no optim_g\.param_groups"),
        (lambda do: do["optim_g"].update(state=[1, 2]), "the number of updates of optim_g"),
        (lambda do: do.update(steps=-3), "do_00000002: steps is -3; it should be a number of steps"),
        (lambda do: do.update(steps=True), "steps is True"),
        (lambda do: do.update(steps=10**400), "steps is a number of 1329 bits"),
        (lambda do: do.update(epoch=math.inf), "epoch is inf"),
        (each(lambda state: {"step": -5}), r"optim_g\.state\.0\.step is -5"),
        (each(lambda state: {"step": 10**400}), "step is a number of 1329 bits"),
        (each(lambda state: {"step": torch.ones(2)}), r"step is a tensor of shape \(2,\)"),
        (each(lambda state: {"step": torch.tensor(math.nan)}), "step is nan"),
        (each(lambda state: {"step": torch.tensor(1j)}), "complex64"),
        (each(lambda state: {"exp_avg": state["exp_avg"] * math.nan}), r"optim_g\.state\.0\.exp_avg contains 8 values"),
        (
            each(lambda state: {"exp_avg_sq": -state["exp_avg_sq"] - 1}, "optim_d"),
            r"optim_d\.state\.\d+\.exp_avg_sq contains \d+ negative second moments",
        ),
        (
            lambda do: do["msd"].update({"discriminators.99999999.convs.0.bias": torch.ones(1)}),
            r"\+ msd\.discriminators\.99999999",
        ),
        (
            lambda do: do["mpd"].update({"discriminators.0.conv_post.weight_v": torch.ones(1, 2**18, 1, 1)}),
            "do_00000002 contains a period discriminator with 262144 channels",
        ),
        (
            lambda do: [do[name].clear() for name in ("mpd", "msd")],
            "do_00000002 contains 0 period and 0 scale discriminators.*--no-training",
        ),
    ],
)
def test_invalid_optimisers_raise_an_error(trained, tmp_path, damage, message):
    assert_training_import_raises(tmp_path, damage, message)


@pytest.mark.parametrize(
    ("name", "value"),
    [("generator", {}), ("generator", 3), ("steps", -1), ("epoch", "x"), ("decay", None), ("decay", "x"), ("decay", 2)],
)
def test_hostile_training_files_raise_an_error(trained, name, value):
    _, folder = trained
    path = folder / "training.safetensors"
    with safe_open(path, "numpy") as file:
        metadata, arrays = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(arrays, path, {**metadata, name: json.dumps(value)})
    with pytest.raises((CheckpointError, ConfigError), match=f"{name}|decay"):
        continued_config(folder)


def test_moments_of_a_folded_generator_raise_an_error(trained, tmp_path):
    write(tmp_path / "cp" / "g_00000002", {"generator": folded(torch_trainer().generator)})
    with pytest.raises(CheckpointError, match="has 36 parameters; it should have 24"):
        import_model(tmp_path / "cp" / "g_00000002", tmp_path / "broken")


@pytest.mark.slow
def test_v1_training_continues_at_full_size(tmp_path):
    trainer, upcoming = torch_trainer(PRESETS["v1"], small=False), batches(3, examples=1)
    for _ in range(2):
        trainer.step(*next(upcoming))
    source = save(trainer, tmp_path / "cp", step=1, epoch=0, legacy=False, config=None)
    import_model(source, tmp_path / "model")
    assert_same_training(trainer, tmp_path / "model", upcoming)
