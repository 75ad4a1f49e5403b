"""Recognition of generators and discriminators by the names and shapes of tensors."""

import itertools

import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.models.hifigan.config import PRESETS, DiscriminatorConfig, GeneratorConfig
from jaxvoice.models.hifigan.foreign_configs import ForeignConfig
from jaxvoice.models.hifigan.recognition import choose_generator, generators_in, recognise, recognise_discriminators
from jaxvoice.models.hifigan.weights import generator_shapes, period_shapes, scale_shapes

NAMES = list(generator_shapes(PRESETS["v3"].generator))


def below(*prefixes):
    return [prefix + name for prefix, name in itertools.product(prefixes, NAMES)]


@pytest.mark.parametrize(
    "prefix", ["", "generator.", "generator.module.", "model.model_g.", "xtts.a.waveform_decoder."]
)
def test_generators_are_found_under_any_prefix(prefix):
    assert generators_in([*below(prefix), "encoder.conv_pre.bias", "discriminator.conv_post.bias"]) == [prefix]


def test_part_matches_the_last_components_of_a_path():
    names = below("a.dec.", "b.dec.", "c.decoder.")
    assert choose_generator(names, "a.dec", "x") == "a.dec."
    assert choose_generator(names, "decoder.", "x") == "c.decoder."
    with pytest.raises(
        CheckpointError, match=r"--part dec matches several generators of x.*a\.dec, b\.dec, c\.decoder"
    ):
        choose_generator(names, "dec", "x")
    with pytest.raises(CheckpointError, match=r"no generator of x.*\(the whole file\)"):
        choose_generator(below(""), "dec", "x")


def found(config, claims=None, *, released=True, place="generator."):
    return recognise(generator_shapes(config), claims, released=released, prefix=place, where="x")


@pytest.mark.parametrize("name", ["v1", "v2", "v3"])
def test_released_versions_are_recognised(name):
    recognised = found(PRESETS[name].generator)
    assert recognised.version == name.upper() and recognised.config == PRESETS[name]
    assert len(recognised.assumed) == 3


def test_unreleased_sizes_require_a_configuration():
    odd = GeneratorConfig(upsample_rates=(5, 4), upsample_kernel_sizes=(11, 8))
    with pytest.raises(CheckpointError, match=r"kernels of x are \(11, 8\).*--config"):
        found(odd)
    short = GeneratorConfig(upsample_rates=(8, 8), upsample_kernel_sizes=(16, 16))
    with pytest.raises(CheckpointError, match=r"hop of 64 samples.*--config"):
        found(short)
    blocks = GeneratorConfig(resblock="2", resblock_dilation_sizes=((1, 3),) * 3)
    with pytest.raises(CheckpointError, match=r"residual blocks 2 with kernels \(3, 7, 11\).*--config"):
        found(blocks)
    with pytest.raises(CheckpointError, match="mel contract of x is unknown"):
        found(PRESETS["v1"].generator, released=False, place="model.model_g.")


def test_configuration_supplies_settings_that_shapes_lack():
    config = PRESETS["v1_16k"]
    odd = GeneratorConfig(upsample_rates=(4, 4, 4, 4), upsample_kernel_sizes=(16, 16, 4, 4))
    said = {"upsample_rates": (4, 4, 4, 4), "resblock_dilation_sizes": odd.resblock_dilation_sizes}
    recognised = found(odd, ForeignConfig("jik876", said, config.mel, segment_size=1000))
    assert recognised.config.generator == odd and recognised.config.mel == config.mel and recognised.assumed == ()
    assert recognised.config.segment_size == 1024, "a multiple of the hop length, and at least n_fft"


@pytest.mark.parametrize(
    "config", [DiscriminatorConfig(), DiscriminatorConfig(periods=(2, 3, 5), scales=1, width=1 / 8)]
)
def test_discriminators_are_recognised_by_their_shapes(config):
    shapes = {f"mpd.{name}": shape for name, shape in period_shapes(config).items()}
    shapes |= {f"msd.{name}": shape for name, shape in scale_shapes(config).items()}
    assert recognise_discriminators(shapes, "x")[0] == config


def test_files_without_discriminators_raise_an_error():
    with pytest.raises(CheckpointError, match="0 period and 0 scale"):
        recognise_discriminators({}, "x")
