"""Recordings through bent networks: plain results are those of pipelines, and rules change what their names say."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
import soundfile

import jaxvoice
from jaxvoice.dissect import Affine, Bend, BendingConfig, Control, Mix, Scale
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.models.gaussian_tts import FAMILY as TTS
from jaxvoice.models.hifigan import FAMILY as HIFIGAN
from jaxvoice.models.rave import FAMILY as RAVE
from jaxvoice.models.waveglow import FAMILY as WAVEGLOW
from jaxvoice.pipelines.bender import Bender, with_defaults
from tests.models.gaussian_tts.small import SMALL as TTS_SMALL
from tests.models.hifigan.small import SMALL as HIFIGAN_SMALL
from tests.models.rave.small import CONFIGS, random_model
from tests.models.waveglow.small import SMALL as WAVEGLOW_SMALL, random_network
from tests.pipelines.conftest import loud_generator

RAVE_CONFIG = CONFIGS["noise"]
RATE = 16000
AUDIO = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 11000)).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Model folders of three families, and recordings."""
    folder = tmp_path_factory.mktemp("bender")
    RAVE.save_network(folder / "rave", random_model(RAVE_CONFIG), RAVE_CONFIG)
    HIFIGAN.save_network(folder / "hifigan", loud_generator(HIFIGAN_SMALL), HIFIGAN_SMALL)
    WAVEGLOW.save_network(folder / "waveglow", random_network(), WAVEGLOW_SMALL)
    soundfile.write(folder / "in.wav", AUDIO[0], RATE, "FLOAT")
    return folder


@pytest.fixture(scope="module")
def benders(folders):
    return {name: Bender.load(folders / name, seconds=1) for name in ("rave", "hifigan", "waveglow")}


def padded(audio=AUDIO[0]):
    return np.pad(audio, (0, RATE - len(audio)))


@pytest.mark.slow
def test_plain_results_are_those_of_the_pipelines(benders, folders):
    found = {name: bender.play(bender.read(folders / "in.wav", seed=3)) for name, bender in benders.items()}
    rave = jaxvoice.Rave.load(folders / "rave")
    expected = {
        # Latents are the means, and the noise of the generator is that of the seed.
        "rave": rave.decode(rave.encode(padded(), RATE), seed=3),
        "hifigan": jaxvoice.Vocoder.load(folders / "hifigan").resynthesize(padded(), RATE),
        "waveglow": jaxvoice.Vocoder.load(folders / "waveglow", window=256).resynthesize(
            padded(), RATE, denoise=0, seed=3
        ),
    }
    for name, audio in expected.items():
        count = -(-AUDIO.shape[1] * benders[name].sample_rate // RATE)
        assert found[name].shape == (count, 1)
        assert np.abs(audio[:count]).max() > 1e-3
        np.testing.assert_allclose(found[name][:, 0], audio[:count], atol=2e-4 * np.abs(audio).max(), err_msg=name)


def test_names_are_those_of_model_folders(benders):
    names = {name: {row.name: row for row in bender.names} for name, bender in benders.items()}
    assert names["rave"]["decoder.net.0.weight_g"].kind == "weights"
    assert names["rave"]["decoder.net.0"].shape[0] == RATE // RAVE_CONFIG.hop_length
    assert {"ups.0.weight_v", "ups.0"} <= set(names["hifigan"]) and "convinv.0.conv.weight" in names["waveglow"]


def test_matches_have_kinds_and_the_nearest_names(benders):
    bender = benders["hifigan"]
    found = bender.matches(r"ups\.\d")
    assert [(row.name, row.kind) for row in found] == [("ups.0", "activations"), ("ups.1", "activations")]
    assert [row.name for row in bender.matches(r"ups\.0.*", "weights")] == [
        *("ups.0.weight_g", "ups.0.weight_v", "ups.0.bias")
    ]
    with pytest.raises(ConfigError, match=r"No activation has a name that matches 'up\.0'; the nearest are ups\.0"):
        bender.matches("up.0", "activations")
    with pytest.raises(ConfigError, match="should be a regular expression"):
        bender.matches("(")


def test_weights_and_activations_are_bent_without_compilations(benders):
    bender = benders["hifigan"]
    source = bender.read(AUDIO, RATE)
    gain = Control("gain", 1.0, low=-4, high=4)
    rules = (Bend(Scale(gain), "conv_post.weight_g"), Bend(Scale(gain), "conv_pre", on="activations"))
    config = BendingConfig(rules)
    plain, same = bender.play(source), bender.play(source, config)
    np.testing.assert_array_equal(same, plain)
    function, traced = bender._function, []
    counting = Bender(bender.pipeline, bender.network, seconds=1)
    counting._function = lambda *args: traced.append(1) or function(*args)
    bent = [counting.play(source, config, {"gain": value}) for value in (2.0, 0.5, 2.0)]
    assert len(traced) == 1
    np.testing.assert_array_equal(bent[0], bent[2])
    with pytest.raises(ConfigError, match="should be in"):
        counting.play(source, config, {"gain": 5.0})
    np.testing.assert_array_equal(counting.play(source, config, {"gain": 0.5}), bent[1])
    assert len(traced) == 1  # the program is kept after a wrong value
    # Twice the norm of the last kernel doubles the input of tanh, without the bias.
    alone = bender.play(source, BendingConfig(rules[:1]), {"gain": 2.0})[:, 0]
    bias = float(bender.network.conv_post.bias[0])
    expected = np.tanh(2 * (np.arctanh(np.float64(plain[:, 0])) - bias) + bias)
    np.testing.assert_allclose(alone, expected, atol=1e-4)
    assert np.abs(bent[0] - plain).max() > 1e-3


def test_rules_have_the_names_of_model_folders(benders):
    bender = benders["rave"]
    source = bender.read(AUDIO, RATE)
    found = bender.play(source, BendingConfig((Bend(Scale(-0.5), "decoder.net.0.weight_g"),)))
    scaled = eqx.tree_at(
        lambda model: model.network.decoder.net[0].weight_g, bender.network, replace_fn=lambda g: g / -2
    )
    expected = np.asarray(eqx.filter_jit(bender.pipeline.network_function)(scaled, *source.inputs))[: source.samples]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(found - bender.play(source)).max() > 1e-3 * np.abs(expected).max()


def test_long_recordings_are_cut_and_lengths_are_whole_seconds(benders, tmp_path):
    bender = benders["hifigan"]
    long = np.tile(AUDIO, (2, 3))
    two = bender.read(long, RATE)
    long[:, RATE:] = np.nan  # would be an error if it was read
    soundfile.write(tmp_path / "long.wav", long.T, RATE, "FLOAT")
    file = bender.read(tmp_path / "long.wav")
    np.testing.assert_array_equal(file.inputs[0], two.inputs[0])
    assert (file.samples, file.seconds, file.is_cut) == (two.samples, two.seconds, True)
    assert two.is_cut and two.samples == bender.sample_rate and two.seconds == pytest.approx(33000 / RATE)
    assert {two.inputs[0].shape} == {bender.read(AUDIO[:, :n], RATE).inputs[0].shape for n in (1, 11000, 16000)}
    one = bender.read(AUDIO[:, :500], RATE)
    assert not one.is_cut and bender.play(one).shape == (-(-500 * bender.sample_rate // RATE), 1)


@pytest.mark.slow
def test_models_of_several_channels(folders, tmp_path):
    config = CONFIGS["stereo"]
    RAVE.save_network(tmp_path / "stereo", random_model(config), config)
    bender = Bender.load(tmp_path / "stereo", seconds=1)
    both = np.concatenate([AUDIO, AUDIO[:, ::-1]])
    expected = jaxvoice.Rave.load(tmp_path / "stereo").transfer(np.pad(both, ((0, 0), (0, RATE - 11000))), RATE)
    found = bender.play(bender.read(both, RATE)).T
    np.testing.assert_allclose(found, expected[:, :11000], atol=2e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(bender.read(AUDIO, RATE).inputs[0][:, 1], padded())
    with pytest.raises(AudioError, match=r"should be \(2, samples\)"):
        bender.read(np.tile(AUDIO, (3, 1)), RATE)


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (AUDIO[0], RATE, r"has shape \(11000,\) and type float32; it should be floats of shape \(channels, samples\)"),
        ((AUDIO * 32767).astype(np.int16), RATE, "type int16; it should be floats"),
        (AUDIO[:, :0], RATE, "The audio is empty"),
        (AUDIO * np.nan, RATE, "The audio is NaN or infinite"),
        (AUDIO, 0, "sample_rate is 0"),
        (AUDIO, float("nan"), "sample_rate is nan"),
        (AUDIO, RATE + 0.5, "sample_rate is "),
    ],
)
def test_arrays_that_are_no_recordings_raise_an_error(audio, rate, message, benders):
    with pytest.raises(AudioError, match=message):
        benders["rave"].read(audio, rate)


def test_saved_values_are_defaults():
    gain, share = Control("gain", 1.0, low=-2, high=2), Control("share", 0.5, low=0, high=1)
    config = BendingConfig((Bend(Affine(gain, 0.25), "a", amount=share), Bend(Mix(("b",), (1.0, share)), "b")))
    saved = with_defaults(config, {"gain": -1.5})
    assert saved.controls == {"gain": dataclasses.replace(gain, default=-1.5), "share": share}
    assert saved.rules[0].operation == Affine(dataclasses.replace(gain, default=-1.5), 0.25)
    with pytest.raises(ConfigError, match="should be in"):
        with_defaults(config, {"gain": 3.0})


def test_errors(benders, folders, tmp_path):
    bender = benders["hifigan"]
    source = bender.read(AUDIO, RATE)
    with pytest.raises(ConfigError, match="matches no weight and no activation"):
        bender.play(source, BendingConfig((Bend(Scale(), "missing"),)))
    large = BendingConfig((Bend(Scale(1e30), "(ups|conv_pre).*", on="activations"),))
    with pytest.raises(AudioError, match="contains NaN or infinity; it should be finite"):
        bender.play(source, large)
    for seconds in (0, -1.0, float("nan"), "3", True):
        with pytest.raises(ConfigError, match="should be a positive number"):
            Bender(bender.pipeline, bender.network, seconds=seconds)
    TTS.save_network(tmp_path / "tts", TTS.build(TTS_SMALL, key=jax.random.key(0)), TTS_SMALL)
    with pytest.raises(ConfigError, match="'gaussian_tts'; it should be a model that computes audio from a recording"):
        Bender.load(tmp_path / "tts")
    conditional = dataclasses.replace(
        HIFIGAN_SMALL, generator=dataclasses.replace(HIFIGAN_SMALL.generator, cond_channels=4)
    )
    generator = loud_generator(conditional)
    pipeline = HIFIGAN.pipeline_class()(generator, conditional)
    with pytest.raises(ConfigError, match="conditioning vector of 4 channels"):
        Bender(pipeline, generator)
