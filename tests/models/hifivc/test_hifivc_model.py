"""The whole network of HiFi-VC, its configuration and presets."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.conformer import Conformer, ConformerConfig, ConformerEncoder, with_state
from jaxvoice.models.hifigan import DiscriminatorConfig, Discriminators
from jaxvoice.models.hifivc import (
    FAMILY,
    PRESETS,
    DecoderConfig,
    HiFiVC,
    HiFiVCConfig,
    PitchEncoderConfig,
    SpeakerVAEConfig,
    preset,
)
from jaxvoice.weights import count_parameters, load_state, named_arrays
from tests.models.hifivc.small import SMALL, random_network


@eqx.filter_jit
def call(function, *args, **options):
    """The compiled call."""
    return function(*args, **options)


@pytest.fixture(scope="module")
def model():
    return random_network(SMALL)


def inputs(frames=24, rows=None):
    """Features, F0 and a reference, for `rows` examples."""
    random, batch = np.random.default_rng(0), () if rows is None else (rows,)
    pitch = np.stack([5 + 0.2 * random.normal(size=(*batch, frames)), np.ones((*batch, frames))], axis=-1)
    features, reference = random.normal(size=(*batch, frames, 80)), random.normal(size=(*batch, 30, 80)) - 4
    return features.astype(np.float32), pitch.astype(np.float32), reference.astype(np.float32)


@pytest.mark.slow
def test_call_is_the_composition_of_its_parts(model):
    features, pitch, reference = inputs()
    audio = call(model, features, pitch, reference)
    assert audio.shape == (6 * 960, 1) and audio.dtype == np.float32
    content = call(model.encode_content, features)
    np.testing.assert_array_equal(content, call(model.content_encoder, features, inference=True))
    speaker = call(model.encode_speaker, reference).mean
    np.testing.assert_allclose(call(model.decode, content, pitch, speaker), audio, atol=1e-6)
    key = jax.random.key(3)
    sampled = call(model, features, pitch, reference, key=key)
    drawn = call(model.encode_speaker, reference).sample(key)
    np.testing.assert_allclose(sampled, call(model.decode, content, pitch, drawn), atol=1e-6)
    assert np.abs(sampled - audio).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("release", ["1.7", "2.6"])
def test_padded_sources_equal_sources_alone(release):
    content = dataclasses.replace(SMALL.content, nemo_release=release)
    model = random_network(dataclasses.replace(SMALL, content=content))
    features, pitch, reference = inputs(rows=2)
    lengths, references = [24, 13], [30, 17]
    for i, (length, other) in enumerate(zip(lengths, references, strict=True)):
        features[i, length:], pitch[i, 4 * -(-length // 4) :], reference[i, other:] = np.nan, np.nan, np.nan
    options = {"length": jnp.asarray(lengths), "reference_length": jnp.asarray(references)}
    together = call(model, features, pitch, reference, **options)
    for i, (length, other) in enumerate(zip(lengths, references, strict=True)):
        frames = -(-length // 4)
        alone = call(model, features[i, :length], pitch[i, : 4 * frames], reference[i, :other])
        np.testing.assert_allclose(together[i, : 960 * frames], alone, atol=1e-5)


def test_content_encoders_receive_no_gradient(model):
    features, _, reference = inputs(8)

    def loss(model):
        speaker = model.encode_speaker(reference).mean
        return jnp.sum(jnp.square(model.encode_content(features))) + jnp.sum(jnp.square(speaker))

    gradients = named_arrays(eqx.filter_jit(eqx.filter_grad(loss))(model))
    changed = {name for name, array in gradients.items() if np.any(array)}
    assert changed and all(name.startswith("speaker_encoder.") for name in changed)


@pytest.mark.slow
def test_given_content_encoders_are_folded(model):
    config = dataclasses.replace(SMALL.content, classes=5)
    trained = Conformer(config, key=jax.random.key(7))
    stored = with_state(trained, trained.init_state())
    ours = HiFiVC(SMALL, content_encoder=stored.encoder, key=jax.random.key(0))
    assert jax.tree.structure(ours) == jax.tree.structure(
        eqx.tree_at(lambda m: m.content_encoder, model, ours.content_encoder)
    )
    features = inputs()[0]
    expected = call(stored.encoder, features, inference=True)
    np.testing.assert_allclose(call(ours.encode_content, features), expected, atol=1e-5)
    skeleton = eqx.filter_eval_shape(FAMILY.build, SMALL, key=jax.random.key(0))
    assert named_arrays(load_state(skeleton, named_arrays(ours))).keys() == named_arrays(ours).keys()
    other = ConformerEncoder(dataclasses.replace(config, layers=2), key=jax.random.key(1))
    with pytest.raises(ConfigError, match=r"content_encoder is .*layers=2.* should be that of the model"):
        HiFiVC(SMALL, content_encoder=other, key=jax.random.key(0))


@pytest.mark.slow
def test_models_without_pitch_encoder_take_no_pitch(model):
    features, pitch, reference = inputs(8)
    without = HiFiVC(dataclasses.replace(SMALL, pitch_encoder=None), key=jax.random.key(0))
    assert call(without, features, None, reference).shape == (2 * 960, 1)
    with pytest.raises(ConfigError, match="pitch is given; it should be None, because this model has no pitch encoder"):
        call(without, features, pitch, reference)
    with pytest.raises(ConfigError, match="pitch is None; it should be given, because this model has a pitch encoder"):
        call(model, features, None, reference)
    with pytest.raises(ShapeError, match=r"pitch_code is \(1, 4\); it should be \(2, 4\)"):
        call(model, features, pitch[:4], reference)


def test_presets_have_the_sizes_of_their_descriptions():
    full = eqx.filter_eval_shape(HiFiVC, preset("full"), key=jax.random.key(0))
    # The encoder of NeMo without its running statistics and the weights of its batch norms.
    assert count_parameters(full.content_encoder) == 121_435_136 - 18 * 2 * 512
    tiny = eqx.filter_eval_shape(HiFiVC, preset("tiny"), key=jax.random.key(0))
    assert count_parameters(tiny) < 2e6 and count_parameters(tiny.decoder) < 5.2e5
    discriminators = eqx.filter_eval_shape(Discriminators, preset("tiny").discriminators, key=jax.random.key(0))
    assert count_parameters(discriminators) < 6e5
    assert preset("full").discriminators == DiscriminatorConfig()
    for config in PRESETS.values():
        assert config.decoder.hop_length == 960 and config.mel.sample_rate == 24000
    with pytest.raises(ConfigError, match="preset is 'small'; it should be one of full, tiny"):
        preset("small")


def test_receptive_field_contains_every_frame_that_has_influence():
    config = DecoderConfig(pre_channels=8, upsample_initial_channel=16, pre_kernel_size=3)
    before, after = config.receptive_field
    wider = dataclasses.replace(config, pre_kernel_size=7).receptive_field
    assert (before + 2, after + 2) == wider


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HiFiVCConfig(speaker=SpeakerVAEConfig(in_channels=40)), "in_channels is 40; it should be .* 80"),
        (
            lambda: HiFiVCConfig(decoder=DecoderConfig((8, 8, 5, 2), (16, 16, 11, 4))),
            "upsample_rates .* is 640; it should be 960, the samples of a content frame of 40 ms .* 24000 Hz",
        ),
        (
            lambda: HiFiVCConfig(pitch_encoder=PitchEncoderConfig(strides=(2,), kernel_sizes=(4,))),
            r"strides \(2,\) is 2; it should be 4",
        ),
        (
            lambda: HiFiVCConfig(decoder=DecoderConfig(fusion="sum")),
            'channels is 256; it should be decoder.pre_channels, 512, because decoder.fusion is "sum"',
        ),
    ],
)
def test_parts_that_do_not_fit_raise_errors(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_content_encoders_of_other_sizes_are_possible():
    config = dataclasses.replace(SMALL, content=ConformerConfig(layers=1, dim=12, heads=2, feed_forward=8))
    model = eqx.filter_eval_shape(HiFiVC, config, key=jax.random.key(0))
    assert model.decoder.content_channels == 12
