"""Presets of RAVE: names, shapes and numbers of parameters of the release, and invalid values."""

import dataclasses

import equinox as eqx
import jax
import pytest

from jaxvoice.config import from_dict, to_dict
from jaxvoice.errors import ConfigError
from jaxvoice.models.rave import (
    ADD_ONS,
    PRESETS,
    BottleneckConfig,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    MelInputConfig,
    NoiseConfig,
    PQMFConfig,
    Rave,
    RaveConfig,
    preset,
)
from jaxvoice.weights import count_parameters, named_arrays
from tests.models.rave.released import NOT_ARRAYS
from tests.reference import golden

RELEASED = {
    "v1": ("v1",),
    "v2": ("v2",),
    "v2_noise": ("v2", "noise"),
    "v2_small": ("v2_small",),
    "v2_nopqmf": ("v2_nopqmf",),
    "v2_nopqmf_snake": ("v2_nopqmf", "snake"),
    "v2_wasserstein": ("v2", "wasserstein"),
    "v2_spherical": ("v2", "spherical"),
    "v3": ("v3",),
    "v3_discrete": ("discrete_v3",),
    "discrete": ("discrete",),
    "onnx": ("onnx",),
    "raspberry": ("raspberry",),
}
"""The configurations whose tensors are known, as presets with add-ons."""


@pytest.mark.parametrize("name", RELEASED)
def test_names_and_shapes_equal_the_release(name):
    network = eqx.filter_eval_shape(Rave, preset(*RELEASED[name]), key=jax.random.key(0))
    found = named_arrays(network) | named_arrays(eqx.filter_eval_shape(network.init_state))
    released = {
        tensor["name"]: tuple(tensor["shape"])
        for tensor in golden.case_json(f"rave/shapes/rave_{name}")["tensors"]
        if not tensor["name"].startswith(("discriminator.", "audio_distance.", "multiband_audio_distance."))
        and not tensor["name"].endswith(NOT_ARRAYS)
    }
    assert {name: array.shape for name, array in found.items()} == released


@pytest.mark.parametrize(
    ("arguments", "encoder", "decoder"),
    [
        (("v1",), 4_834_176, 12_778_193),
        (("v2",), 16_056_928, 15_479_072),
        (("v2", "noise"), 16_056_928, 31_691_648 - 16_056_928),
        (("v2", "wasserstein"), 14_950_768, 30_503_568 - 14_950_768),
        (("v2", "spherical"), 14_950_768, 29_913_744 - 14_950_768),
        (("v2_small",), 3_945_904, 7_762_512 - 3_945_904),
        (("v2_nopqmf",), 7_403_328, 10_477_954),
        (("v2_nopqmf", "snake"), 7_405_312, 17_885_250 - 7_405_312),
        (("v3",), 16_059_904, 31_541_952 - 16_059_904),
        (("discrete",), 14_287_328, 29_176_576 - 14_287_328),
        (("hybrid",), 3_001_312, 15_677_216),
        (("v2_with_augs",), 4_552_288, 15_479_072),
        (("onnx",), 1_374_656, 4_792_625 - 1_374_656),
        (("raspberry",), 426_720, 1_397_921 - 426_720),
        (("v2", "causal"), 16_056_928, 15_479_072),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else "",
)
def test_numbers_of_parameters_equal_the_release(arguments, encoder, decoder):
    network = eqx.filter_eval_shape(Rave, preset(*arguments), key=jax.random.key(0))
    assert (count_parameters(network.encoder), count_parameters(network.decoder)) == (encoder, decoder)


@pytest.mark.parametrize(
    ("arguments", "hop_length"),
    [
        (("hybrid",), 2048),
        (("v2_with_augs",), 2048),
        (("v1",), 2048),
        (("v3",), 2048),
        (("v2_nopqmf",), 2048),
        (("discrete",), 1024),
        (("v2_small",), 512),
    ],
)
def test_hop_lengths_equal_the_release(arguments, hop_length):
    config = preset(*arguments)
    assert config.hop_length == hop_length and config.latent_rate == 44100 / hop_length


def test_settings_that_shapes_do_not_determine():
    """Dilations, and sizes of Fourier transforms, change no tensor of the release."""
    dilations = ((1, 3, 9),) * 3 + ((1, 3),)
    for name in ("v2", "v2_small", "v2_nopqmf", "v3", "discrete", "discrete_v3", "wasserstein", "spherical"):
        assert PRESETS[name].encoder.dilations == PRESETS[name].generator.dilations == dilations
    for name, of_stage in (("hybrid", (1,)), ("v2_with_augs", (1, 3, 9))):
        assert PRESETS[name].encoder.dilations == (of_stage,) * 3
        assert PRESETS[name].generator.dilations == dilations
        assert PRESETS[name].encoder.mel == MelInputConfig(2048, 256, 128)
    periods = (2, 3, 5, 7, 11)
    descript = preset("v3").discriminators
    assert (descript.periods, descript.fft_sizes) == (periods, (2048, 1024, 512))
    spectral = preset("v2", "spectral_discriminator").discriminators
    assert (spectral.scales, spectral.fft_sizes) == (3, (4096, 2048, 1024, 512, 256))


def test_add_ons_change_what_they_are_named_after():
    assert preset("v3") == preset("v2", "adain", "snake", "descript_discriminator")
    assert preset("wasserstein") == preset("v2", "wasserstein") and preset("spherical") == preset("v2", "spherical")
    assert preset("v2", "causal").padding == "causal"
    assert preset("v2", "spectral_discriminator").discriminators.kind == "spectral"
    assert all(ADD_ONS[name](preset("v2")) != preset("v2") for name in ADD_ONS)
    with pytest.raises(ConfigError, match=r"EncoderConfig.snake is True; it should be False with version=\"v1\""):
        preset("v1", "snake")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_written_and_read_as_json(name):
    assert from_dict(RaveConfig, to_dict(PRESETS[name])) == PRESETS[name]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: preset("v2_nopqmf_small"), "the release cannot build either"),
        (lambda: dataclasses.replace(preset("v1").generator, recurrent_layers=1), "recurrent_layers is 1; .*0 for v1"),
        (lambda: GeneratorConfig(noise=NoiseConfig((2, 3))), "noise is .*divides that of the generator, 128"),
        (lambda: MelInputConfig(n_fft=255), "n_fft is 255; it should be even"),
        (lambda: MelInputConfig(hop_length=4096), "hop_length is 4096; it should be at most n_fft"),
        (lambda: preset("v4"), "preset is 'v4'; it should be one of v1, v2,"),
        (lambda: preset("v2", "snakes"), "add-on is 'snakes'; it should be one of causal, noise,"),
        (lambda: PQMFConfig(num_bands=12), "num_bands is 12; it should be a power of two"),
        (lambda: EncoderConfig(capacity=0), "capacity is 0; it should be positive"),
        (lambda: EncoderConfig(ratios=(4, 4)), r"dilations is .*each of the 2 ratios"),
        (lambda: EncoderConfig("v1"), r"EncoderConfig.dilations is .*\(\) with version"),
        (lambda: GeneratorConfig(ratios=(4, 4, 3, 2)), "ratios is .*even numbers, or 1"),
        (lambda: NoiseConfig(bands=1), "bands is 1; it should be at least 2"),
        (lambda: BottleneckConfig(noise_channels=3), "noise_channels is 3; it should be 0 with kind='variational'"),
        (lambda: BottleneckConfig("discrete", codebook_decay=1.0), r"codebook_decay is 1.0; it should be in \[0, 1\)"),
        (lambda: DiscriminatorConfig(fft_sizes=(2048, 1023)), "fft_sizes is .*multiples of 4"),
        (lambda: RaveConfig(n_channels=0), "n_channels is 0; it should be positive"),
        (
            lambda: dataclasses.replace(preset("v2"), encoder=EncoderConfig(ratios=(4, 4, 4, 4))),
            "hop length of the encoder is 4096 samples and that of the generator 2048",
        ),
    ],
)
def test_invalid_values_raise_an_error(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
