"""HiFi-VC's encoders and decoder compared with torch and closed forms."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from experiments.benchmarks import torch_hifivc as reference
from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.hifivc import (
    Decoder,
    DecoderConfig,
    PitchEncoder,
    PitchEncoderConfig,
    SpeakerEncoder,
    SpeakerPosterior,
    SpeakerVAEConfig,
    kl_divergence,
)
from jaxvoice.nn import fold_weight_norm
from jaxvoice.weights import count_parameters, load_state, named_arrays

VAE = SpeakerVAEConfig(in_channels=10, widths=(6, 8, 12, 12), size=5)
PITCH = PitchEncoderConfig(channels=6)
DECODER = DecoderConfig(
    upsample_rates=(4, 2),
    upsample_kernel_sizes=(8, 4),
    upsample_initial_channel=16,
    resblock_kernel_sizes=(3, 5),
    resblock_dilation_sizes=((1, 3), (1, 2)),
    pre_channels=16,
)
CONTENT, SPEAKER = 10, 5


def skeleton(network, *args, **options):
    return eqx.filter_eval_shape(lambda key: network(*args, **options, key=key), jax.random.key(0))


def numbers(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def columns(array):
    """An array `(batch, time, channels)` as torch has it."""
    return torch.from_numpy(np.swapaxes(array, 1, 2).copy())


def assert_close(ours, theirs, tolerance=1e-5):
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()))


@eqx.filter_jit
def call(model, *args, **options):
    """The compiled call; without compilation, each operator of each shape is compiled alone."""
    return model(*args, **options)


def speaker_encoders(config):
    torch.manual_seed(0)
    theirs = reference.randomised(reference.SpeakerEncoder(config))
    return load_state(skeleton(SpeakerEncoder, config), reference.arrays(theirs)), theirs


def decoders(config, pitch):
    torch.manual_seed(0)
    theirs = reference.randomised(reference.Decoder(config, CONTENT, pitch, SPEAKER))
    ours = skeleton(Decoder, config, content_channels=CONTENT, pitch_channels=pitch, speaker_size=SPEAKER)
    return load_state(ours, reference.arrays(theirs)), theirs


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (lambda key: SpeakerEncoder(SpeakerVAEConfig(), key=key), 1_800_320),
        (lambda key: Decoder(DecoderConfig(conditioning="none"), key=key), 16_064_129),
        (lambda key: Decoder(DecoderConfig(), key=key), 16_064_129 + 557_280),
        (lambda key: Decoder(DecoderConfig(), pitch_channels=256, key=key), 16_064_129 + 557_280 + 256 * 256 * 20),
        (lambda key: PitchEncoder(PitchEncoderConfig(), key=key), 2 * 256 + 2 * (256 * 256 * 4 + 256)),
    ],
)
def test_networks_have_the_known_sizes(make, parameters):
    folded = eqx.filter_eval_shape(lambda key: fold_weight_norm(make(key)), jax.random.key(0))
    assert count_parameters(folded) == parameters


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pre_conv_padding": 1, "skip_bias": False},
        {"head_slope": 0.2},
        {"head_slope": 0.2, "pooling": "after_heads"},
    ],
    ids=str,
)
def test_speaker_encoders_equal_torch(options):
    ours, theirs = speaker_encoders(dataclasses.replace(VAE, **options))
    mel = numbers(1, 2, 45, 10)
    posterior = call(ours, mel)
    mean, deviation = theirs(columns(mel))
    assert_close(posterior.mean, mean[..., 0])
    assert_close(posterior.log_variance, deviation[..., 0])


def test_deviation_heads_give_the_same_distribution():
    ours, _ = speaker_encoders(VAE)
    mel = numbers(1, 40, 10)
    log_variance = call(ours, mel).log_variance
    for kind, expected in (("log_deviation", 2 * log_variance), ("deviation", np.log(np.square(log_variance)))):
        config = dataclasses.replace(VAE, deviation=kind)
        other = load_state(skeleton(SpeakerEncoder, config), named_arrays(ours))
        assert_close(call(other, mel).log_variance, expected)


@pytest.mark.parametrize("padding", [0, 1])
def test_padded_references_equal_references_alone(padding):
    ours, _ = speaker_encoders(dataclasses.replace(VAE, pre_conv_padding=padding))
    mel, lengths = numbers(2, 3, 61, 10), [61, 34, ours.config.minimum_frames]
    hidden = mel.copy()
    for row, length in zip(hidden, lengths, strict=True):
        row[length:] = np.nan
    together = call(ours, hidden, length=jnp.asarray(lengths))
    for i, length in enumerate(lengths):
        alone = call(ours, mel[i, :length])
        assert_close(together.mean[i], alone.mean)
        assert_close(together.log_variance[i], alone.log_variance)


def test_short_references_raise_an_error():
    for padding, least in ((0, 10), (1, 8)):
        ours, theirs = speaker_encoders(dataclasses.replace(VAE, pre_conv_padding=padding))
        assert ours.config.minimum_frames == least
        assert np.isfinite(call(ours, numbers(0, least, 10)).mean).all()
        with pytest.raises(ShapeError, match=f"has {least - 1} mel frames; it should have at least {least}"):
            ours(numbers(0, least - 1, 10))
        with pytest.raises(RuntimeError):
            theirs(torch.zeros(1, 10, least - 1))
        with pytest.raises(ShapeError, match=f"has 3 mel frames; it should have at least {least}"):
            ours(numbers(0, 2, 50, 10), length=jnp.array([50, 3]))
    assert SpeakerVAEConfig().minimum_frames == 34 and SpeakerVAEConfig(pre_conv_padding=1).minimum_frames == 32
    with pytest.raises(ShapeError, match=r"should be \(\*batch, frames, 10\)"):
        ours(numbers(0, 50, 9))


def test_divergence_equals_that_of_torch():
    mean, log_variance = numbers(3, 4, 5), numbers(4, 4, 5)
    normal = torch.distributions.Normal(torch.from_numpy(mean), torch.from_numpy(log_variance).mul(0.5).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(-1)
    assert_close(kl_divergence(SpeakerPosterior(jnp.asarray(mean), jnp.asarray(log_variance))), expected)
    assert np.array_equal(kl_divergence(SpeakerPosterior(jnp.zeros((2, 5)), jnp.zeros((2, 5)))), [0, 0])


def test_samples_have_the_mean_and_deviation():
    mean, log_variance = jnp.array([1.0, -2.0]), jnp.log(jnp.array([0.25, 4.0]))
    posterior = SpeakerPosterior(mean, log_variance)
    samples = jax.vmap(posterior.sample)(jax.random.split(jax.random.key(0), 20_000))
    np.testing.assert_allclose(samples.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(samples.std(0), [0.5, 2.0], rtol=0.03)


@pytest.mark.parametrize(
    "config",
    [
        PITCH,
        PitchEncoderConfig(channels=4, strides=(4,), kernel_sizes=(8,), slope=0.2),
        PitchEncoderConfig(channels=4, instance_norm=False),
    ],
)
def test_pitch_encoders_equal_torch(config):
    torch.manual_seed(0)
    theirs = reference.PitchEncoder(config).eval()
    ours = load_state(skeleton(PitchEncoder, config), reference.arrays(theirs))
    pitch = numbers(1, 2, 4 * 9, 2)
    output = call(ours, pitch)
    assert output.shape == (2, 9, config.channels)
    assert_close(output, theirs(columns(pitch)).swapaxes(1, 2))


def test_padded_pitch_equals_pitch_alone():
    ours, pitch, lengths = PitchEncoder(PITCH, key=jax.random.key(0)), numbers(1, 2, 4 * 9, 2), [9, 5]
    hidden = pitch.copy()
    for row, length in zip(hidden, lengths, strict=True):
        row[4 * length :] = np.nan
    together = call(ours, hidden, length=jnp.asarray(lengths))
    for i, length in enumerate(lengths):
        assert_close(together[i, :length], call(ours, pitch[i, : 4 * length]))


def test_pitch_of_another_length_raises_an_error():
    ours = PitchEncoder(PITCH, key=jax.random.key(0))
    for shape in ((6, 2), (8, 1), (0, 2)):
        with pytest.raises(ShapeError, match=r"it should be \(\*batch, 4 \* frames, 2\)"):
            ours(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("options", "pitch"),
    [
        ({}, 6),
        ({}, 0),
        ({"fusion": "sum"}, 16),
        ({"conditioning": "stage_inputs"}, 6),
        ({"conditioning": "none"}, 6),
        ({"input_norm": True, "final_slope": 0.1, "pre_channels": 12, "pre_kernel_size": 3}, 6),
    ],
    ids=str,
)
def test_decoders_equal_torch(options, pitch):
    ours, theirs = decoders(dataclasses.replace(DECODER, **options), pitch)
    content, speaker = numbers(1, 2, 7, CONTENT), numbers(2, 2, SPEAKER)
    code = numbers(3, 2, 7, pitch) if pitch else None
    output = call(ours, content, code, speaker)
    assert output.shape == (2, 7 * 8, 1)
    expected = theirs(columns(content), None if code is None else columns(code), torch.from_numpy(speaker)[..., None])
    assert_close(output, expected.swapaxes(1, 2))
    if not options:
        assert_close(call(fold_weight_norm(ours), content, code, speaker), expected.swapaxes(1, 2))


@pytest.mark.parametrize("conditioning", ["resblocks", "stage_inputs"])
def test_padded_content_equals_content_alone(conditioning):
    config = dataclasses.replace(DECODER, conditioning=conditioning, input_norm=True)
    ours, _ = decoders(config, 6)
    content, code, speaker = numbers(1, 2, 9, CONTENT), numbers(3, 2, 9, 6), numbers(2, 2, SPEAKER)
    lengths, hidden, hidden_code = [9, 4], content.copy(), code.copy()
    for row, other, length in zip(hidden, hidden_code, lengths, strict=True):
        row[length:] = other[length:] = np.nan
    together = call(ours, hidden, hidden_code, speaker, length=jnp.asarray(lengths))
    for i, length in enumerate(lengths):
        alone = call(ours, content[i, :length], code[i, :length], speaker[i])
        assert_close(together[i, : 8 * length], alone)


def test_speaker_vectors_change_the_waveform():
    content, code, speaker = numbers(1, 7, CONTENT), numbers(3, 7, 6), numbers(2, 2, SPEAKER)
    for conditioning, changes in (("resblocks", True), ("stage_inputs", True), ("none", False)):
        ours, _ = decoders(dataclasses.replace(DECODER, conditioning=conditioning), 6)
        first, second = (call(ours, content, code, one) for one in speaker)
        assert bool(jnp.max(jnp.abs(first - second)) > 1e-3) == changes


def test_gradients_equal_torch():
    ours, theirs = decoders(DECODER, 6)
    encoder, torch_encoder = speaker_encoders(VAE)
    pitch_encoder = PitchEncoder(PITCH, key=jax.random.key(1))
    torch_pitch = reference.PitchEncoder(PITCH)
    pitch_encoder = load_state(pitch_encoder, reference.arrays(torch_pitch))
    content, pitch, mel = numbers(1, 2, 7, CONTENT), numbers(3, 2, 28, 2), numbers(4, 2, 20, 10)
    target = numbers(5, 2, 56, 1)

    def loss(models):
        encoder, pitch_encoder, decoder = models
        posterior = encoder(mel)
        audio = decoder(content, pitch_encoder(pitch), posterior.mean)
        return jnp.mean(jnp.square(audio - target)) + 0.01 * jnp.mean(kl_divergence(posterior))

    value, gradients = eqx.filter_jit(eqx.filter_value_and_grad(loss))((encoder, pitch_encoder, ours))
    mean, deviation = torch_encoder(columns(mel))
    audio = theirs(columns(content), torch_pitch(columns(pitch)), mean)
    divergence = -0.5 * (1 + deviation - mean.square() - deviation.exp()).sum((1, 2)).mean()
    expected = (audio - columns(target)).square().mean() + 0.01 * divergence
    expected.backward()
    assert_close(value, expected)
    for module, gradient in zip((torch_encoder, torch_pitch, theirs), gradients, strict=True):
        for parameter in module.parameters():
            assert parameter.grad is not None
            parameter.data = parameter.grad
        for name, array in reference.arrays(module).items():
            np.testing.assert_allclose(named_arrays(gradient)[name], array, rtol=1e-3, atol=2e-6, err_msg=name)


def test_wrong_shapes_raise_errors():
    ours, _ = decoders(DECODER, 6)
    content, code, speaker = jnp.zeros((2, 7, CONTENT)), jnp.zeros((2, 7, 6)), jnp.zeros((2, SPEAKER))
    with pytest.raises(ShapeError, match=r"content is \(2, 7, 9\); it should be \(\*batch, frames, 10\)"):
        ours(content[..., :9], code, speaker)
    with pytest.raises(ShapeError, match=r"pitch_code is None; it should be \(2, 7, 6\)"):
        ours(content, None, speaker)
    with pytest.raises(ShapeError, match=r"pitch_code is \(2, 6, 6\); it should be \(2, 7, 6\)"):
        ours(content, code[:, :6], speaker)
    with pytest.raises(ShapeError, match=r"speaker is \(3, 5\); it should be \(2, 5\)"):
        ours(content, code, jnp.zeros((3, SPEAKER)))
    assert eqx.filter_eval_shape(ours, content, code, speaker[:1]).shape == (2, 56, 1)
    without, _ = decoders(DECODER, 0)
    with pytest.raises(ShapeError, match=r"pitch_code is \(2, 7, 6\); it should be None"):
        without(content, code, speaker)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpeakerVAEConfig(widths=(32,)), "widths is .*at least two numbers"),
        (lambda: SpeakerVAEConfig(size=0), "size is 0; it should be positive"),
        (lambda: SpeakerVAEConfig(size=10**6), "size is 1000000; .* at most 100000"),
        (lambda: PitchEncoderConfig(strides=(2,)), "should have the same length"),
        (lambda: PitchEncoderConfig(kernel_sizes=(3, 4)), "kernel_sizes contains 3 for the stride 2; .* Use 4"),
        (lambda: DecoderConfig(pre_kernel_size=4), "pre_kernel_size is 4; it should be odd"),
        (lambda: DecoderConfig(upsample_rates=(10, 8)), "should have the same length"),
    ],
)
def test_invalid_configurations_raise_errors(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
