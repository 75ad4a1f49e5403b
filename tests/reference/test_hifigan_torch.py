"""The torch HiFi-GAN that other tests and the benchmarks take as the truth, against numbers of the released code."""

import numpy as np
import pytest
import torch

from experiments.benchmarks.torch_hifigan import (
    PRESETS,
    DiscriminatorOutput,
    Generator,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    arrays_of,
    fold_weight_norm,
    load_arrays,
)
from experiments.benchmarks.torch_training import LogMel, Trainer, discriminator_loss, feature_loss, generator_loss
from tests.reference import golden

STACKS = {"mpd": MultiPeriodDiscriminator, "msd": MultiScaleDiscriminator}
RELEASED_KEYS = (
    "resblock",
    "upsample_rates",
    "upsample_kernel_sizes",
    "upsample_initial_channel",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
)


def assert_close(actual: object, expected: np.ndarray, relative: float = 1e-5) -> None:
    """Equal within `relative` of the largest expected value."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=relative * np.abs(expected).max())


def released_generator(config: dict) -> Generator:
    return Generator(**{key: config[key] for key in RELEASED_KEYS})


def coqui_case(name: str) -> tuple[golden.Case, Generator]:
    """A case of coqui's generator, with its newer spelling of weight norm turned into the released one."""
    case = golden.case(f"coqui_hifigan/{name}")
    config = case.meta["config"]
    generator = Generator(
        in_channels=config["in_channels"],
        resblock=config["resblock_type"],
        upsample_rates=config["upsample_factors"],
        **{key: config[key] for key in (*RELEASED_KEYS[2:], "cond_channels")},
        **{key: config[key] for key in config if key.startswith("conv_p")},
    )
    prefix = case.meta["tensors"][0]["name"].split(".")[0] + "."
    spellings = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, value in case.state_dict(strip=prefix).items():
        for new, old in spellings.items():
            key = key.replace(new, old)
        state[key] = value
    load_arrays(generator, state)
    return case, generator


def counted(model: torch.nn.Module, *, without: str = "weight_g") -> int:
    return sum(p.numel() for name, p in model.named_parameters() if not name.endswith(without))


@pytest.mark.parametrize(
    ("preset", "tensors", "parameters"), [("v1", 234, 13_926_017), ("v2", 234, 925_985), ("v3", 69, 1_462_273)]
)
def test_presets_have_the_published_size(preset: str, tensors: int, parameters: int) -> None:
    generator = Generator(**PRESETS[preset])
    assert len(generator.state_dict()) == tensors
    assert counted(generator) == parameters
    assert counted(fold_weight_norm(generator)) == parameters


def test_discriminators_have_the_published_size() -> None:
    assert counted(MultiPeriodDiscriminator()) == 41_092_165
    assert counted(MultiScaleDiscriminator()) == 29_610_627


@torch.no_grad()
def test_generator_equals_released() -> None:
    case = golden.case("hifigan/generator_v1")
    generator = load_arrays(released_generator(case.meta["config"]), case.state_dict())
    mel = torch.from_numpy(case["mel"])
    assert_close(generator(mel), case["wav"])
    assert_close(fold_weight_norm(generator)(mel), case["wav"])


@torch.no_grad()
def test_generator_equals_coqui() -> None:
    case, generator = coqui_case("generator")
    mel = torch.from_numpy(case["mel"])
    assert_close(generator(mel), case["wav"])
    assert_close(generator(torch.nn.functional.pad(mel, (5, 5), "replicate")), case["wav_inference"])


@pytest.mark.parametrize("name", ["generator_cond", "generator_cond_type2"])
@torch.no_grad()
def test_conditioned_generator_equals_coqui(name: str) -> None:
    case, generator = coqui_case(name)
    x, g = torch.from_numpy(case["x"]), torch.from_numpy(case["g"])
    assert_close(generator(x, g), case["wav"])
    assert np.abs(generator(x).numpy() - case["wav"]).max() > 1e-3, "the condition must matter"


@torch.no_grad()
def test_condition_enters_every_stage() -> None:
    generator = Generator(cond_channels=4, cond_in_each_up_layer=True, **PRESETS["v3"])
    assert [conv.weight.shape for conv in generator.conds] == [(128, 4, 1), (64, 4, 1), (32, 4, 1)]
    mel, condition = torch.randn(1, 80, 4), torch.randn(1, 4, 1)
    whole = generator(mel, condition)
    for conv in generator.conds:
        conv.weight.zero_()
        reduced = generator(mel, condition)
        assert not torch.allclose(reduced, whole)
        whole = reduced


@pytest.mark.parametrize("stack", list(STACKS))
@torch.no_grad()
def test_discriminators_equal_released(stack: str) -> None:
    case = golden.case("hifigan/discriminators")
    model = load_arrays(STACKS[stack](), case.state_dict(stack)).eval()
    outputs: dict[str, list[DiscriminatorOutput]] = {
        side: model(torch.from_numpy(case[side])) for side in ("real", "fake")
    }
    maps = 0
    for side, side_outputs in outputs.items():
        for index, (scores, features) in enumerate(side_outputs):
            assert_close(scores, case[f"{stack}_{index}_score_{side}"])
            for layer, feature in enumerate(features):
                assert_close(golden.digest(feature.numpy()), case[f"{stack}_{index}_fmap_{layer}_{side}_digest"])
                maps += 1
    assert maps == {"mpd": 2 * 30, "msd": 2 * 24}[stack]
    real, fake = outputs["real"], outputs["fake"]
    assert_close(discriminator_loss(real, fake), case[f"{stack}_discriminator_loss"])
    assert_close(generator_loss(fake), case[f"{stack}_generator_loss"])
    assert_close(feature_loss(real, fake), case[f"{stack}_feature_loss"])


@pytest.mark.parametrize(("name", "fmax"), [("lj", 8000.0), ("lj_loss", None)])
def test_mel_equals_released(name: str, fmax: float | None) -> None:
    case = golden.case("hifigan/mel")
    assert_close(LogMel(fmax=fmax)(torch.from_numpy(case["wav"])), case[name])


@pytest.mark.slow
@pytest.mark.parametrize(("skip_unused", "steps"), [(False, 2), (True, 3)])
def test_training_equals_released(skip_unused: bool, steps: int) -> None:
    case = golden.case("hifigan/training_v1")
    generator = load_arrays(released_generator(case.meta["config"]), case.state_dict("tensors", "generator"))
    stacks = {name: load_arrays(stack(), case.state_dict("tensors", name)) for name, stack in STACKS.items()}
    trainer = Trainer(generator, stacks["mpd"], stacks["msd"], skip_unused=skip_unused)
    mel, audio = torch.from_numpy(case["mel"]), torch.from_numpy(case["audio"])
    for step in range(steps):
        losses = trainer.step(mel, audio)
        values = [losses[column].item() for column in case.meta["loss_columns"]]
        np.testing.assert_allclose(values, case["losses"][step], rtol=1e-4 if step == 0 else 1e-3)
    if steps == case.meta["steps"]:
        models = {"generator": generator, **stacks}
        checked = [name for name in case.arrays if "/" in name]
        assert len(checked) == 11
        for name in checked:
            model, _, tensor = name.partition("/")
            assert_close(golden.digest(arrays_of(models[model])[tensor]), case[name], 1e-3)
