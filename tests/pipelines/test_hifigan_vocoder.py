"""The vocoder, compared with one call of its generator on the whole input."""

import dataclasses
import re

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.dsp import log_mel
from jaxvoice.errors import AudioError, ConfigError, JaxvoiceWarning, MelError, ShapeError
from jaxvoice.models.hifigan import Generator, GeneratorConfig
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.nn import Stream
from jaxvoice.pipelines import HiFiGANVocoder
from tests.pipelines.conftest import loud_generator, small_config

WINDOW = 48


@pytest.fixture(scope="module")
def vocoder(generator, config) -> HiFiGANVocoder:
    return HiFiGANVocoder(generator, config, window=WINDOW)


def mel_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-6, 2, (8, frames)).clip(-11.5, -1.5).astype(np.float32)


run_whole = eqx.filter_jit(lambda generator, mel, cond: generator(mel.T, cond)[:, 0])


def whole(generator: Generator, mel: np.ndarray, cond: np.ndarray | None = None) -> np.ndarray:
    return np.asarray(run_whole(generator, jnp.asarray(mel), None if cond is None else jnp.asarray(cond)))


def assert_same(found, expected):
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_test_audio_is_loud(generator):
    audio = whole(generator, mel_of(60))
    assert 0.05 < audio.std() < 0.7


@pytest.mark.parametrize("frames", [1, 16, 17, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 11, 200])
def test_padding_and_windows_do_not_change_audio(vocoder, generator, frames):
    mel = mel_of(frames, seed=frames)
    assert_same(vocoder.synthesize(mel, check=False), whole(generator, mel))


@pytest.mark.parametrize("side", [0, 1])
def test_smaller_context_changes_audio(generator, config, monkeypatch, side):
    left, right = config.generator.receptive_field
    short = (left - 1, right) if side == 0 else (left, right - 1)
    monkeypatch.setattr(GeneratorConfig, "receptive_field", property(lambda self: short))
    mel = mel_of(200)
    found = HiFiGANVocoder(generator, config, window=WINDOW).synthesize(mel, check=False)
    assert np.abs(found - whole(generator, mel)).max() > 1e-5


def test_unmasked_padding_changes_audio(vocoder, generator, monkeypatch):
    run = Generator.__call__
    monkeypatch.setattr(Generator, "__call__", lambda self, mel, cond=None, *, length=None: run(self, mel, cond))
    other = HiFiGANVocoder(generator, vocoder.config, window=WINDOW - 1)  # a length not yet compiled
    mel = mel_of(WINDOW - 3)
    found = other.synthesize(mel, check=False)
    assert np.abs(found - whole(generator, mel)).max() > 1e-3


def test_replaced_generator_changes_audio(generator, config):
    vocoder = HiFiGANVocoder(generator, config, window=WINDOW)
    mel = np.full((config.mel.num_mels, 8), -5, np.float32)
    before = vocoder.synthesize(mel, check=False)
    vocoder.generator = jax.tree.map(lambda leaf: 0 * leaf if eqx.is_array(leaf) else leaf, vocoder.generator)
    assert np.any(before) and not np.any(vocoder.synthesize(mel, check=False))


def test_batch_equals_single_calls(vocoder):
    mels = [mel_of(frames, seed=frames) for frames in (5, 130, 20, 48, 7, 1, 16)]
    singles = [vocoder.synthesize(mel, check=False) for mel in mels]
    for found, expected in zip(vocoder.synthesize(mels, check=False), singles, strict=True):
        assert_same(found, expected)
    stacked = np.stack([mel_of(12, seed=seed) for seed in range(5)])
    assert_same(
        vocoder.synthesize(stacked, check=False), np.stack([vocoder.synthesize(m, check=False) for m in stacked])
    )
    assert vocoder.synthesize([], check=False) == []


@pytest.mark.parametrize("sizes", [[1] * 60, [3, 1, 7, 2, 29, 1, 17], [60], [WINDOW, 1, 11], [130, 3, 67]])
def test_stream_equals_synthesize(vocoder, generator, sizes):
    mel = mel_of(sum(sizes))
    chunks = list(vocoder.stream(iter(np.split(mel, np.cumsum(sizes)[:-1], axis=1))))
    assert_same(np.concatenate(chunks), whole(generator, mel))


def test_stream_latency_is_the_right_context(vocoder):
    arrived, right, given = 0, vocoder.context[1], 0

    def arriving():
        nonlocal arrived
        for size in (4, 9, 2, 20, 1):
            assert given == max(0, arrived - right) * vocoder.mel.hop_length
            arrived += size
            yield mel_of(size)

    for chunk in vocoder.stream(arriving()):
        given += len(chunk)
    assert given == arrived * vocoder.mel.hop_length
    assert list(vocoder.stream([])) == []


@pytest.mark.slow
def test_many_lengths_compile_few_programs(monkeypatch):
    traced, run = [], Generator.__call__

    def counting(self, mel, cond=None, *, length=None):
        traced.append(mel.shape)
        return run(self, mel, cond, length=length)

    monkeypatch.setattr(Generator, "__call__", counting)
    config = small_config(upsample_initial_channel=8)  # not yet compiled by another test
    vocoder = HiFiGANVocoder(loud_generator(config), config, window=64)
    for frames in [*range(1, 130), 500]:
        vocoder.synthesize(mel_of(frames), check=False)
    assert len(traced) == 5  # 16, 24, 32, 48, 64
    stepped, step = [], Stream.step

    def counting_step(self, state, x):
        stepped.append(x.shape)
        return step(self, state, x)

    monkeypatch.setattr(Stream, "step", counting_step)
    list(vocoder.stream(mel_of(frames, seed=frames) for frames in range(1, 130)))
    list(vocoder.stream([mel_of(70)]))
    assert stepped == [(1, 8), (4, 8), (16, 8), (64, 8)]
    vocoder.synthesize([mel_of(frames) for frames in range(1, 130)], check=False)
    assert len(traced) <= 8  # and batches of 2 and 4


def test_conditioning_vector_applies_to_every_window(config):
    config = small_config(cond_channels=3, cond_in_each_stage=True)
    generator = loud_generator(config)
    vocoder = HiFiGANVocoder(generator, config, window=WINDOW)
    mels, conds = [mel_of(100), mel_of(9)], np.array([[1, -2, 0.5], [0.3, 2, -1]], np.float32)
    for found, mel, cond in zip(vocoder.synthesize(mels, conds, check=False), mels, conds, strict=True):
        assert_same(found, whole(generator, mel, cond))
    chunks = list(vocoder.stream([mels[0][:, :30], mels[0][:, 30:]], conds[0]))
    assert_same(np.concatenate(chunks), whole(generator, mels[0], conds[0]))
    with pytest.raises(
        ShapeError, match=r"cond is None; it should be the conditioning vector of the generator, of shape \(3,\)"
    ):
        vocoder.synthesize(mels[0], check=False)
    with pytest.raises(ShapeError, match=r"shape \(4,\)"):
        vocoder.synthesize(mels[0], np.zeros(4), check=False)
    with pytest.raises(ShapeError, match="NaN"):
        vocoder.synthesize(mels[0], np.full(3, np.nan), check=False)


@pytest.mark.parametrize("samples", [60, 160, 161, 8000, 8009])
def test_resynthesis_keeps_the_length(vocoder, generator, samples):
    audio = np.sin(np.arange(samples) * 0.3).astype(np.float32) * 0.5
    found = vocoder.resynthesize(audio, 8000)
    assert found.shape == (samples,)
    padded = np.pad(audio, (0, -samples % 16))
    assert np.abs(found - whole(generator, np.asarray(log_mel(padded, vocoder.mel)))[:samples]).max() < 1e-4
    assert vocoder.resynthesize(audio, 16000).shape == (-(-samples // 2),)


def test_invalid_audio_raises(vocoder):
    audio = np.zeros(1000, np.float32)
    for bad, message in [
        (audio.reshape(2, 500), r"\(2, 500\)"),
        (audio.astype(np.int16), "divide 16-bit integers"),
        (audio[:0], "audio is empty"),
        (audio[:10], "too short, 10 samples; it should have at least"),
        (np.where(np.arange(1000) == 7, np.nan, audio), "1 of 1000"),
    ]:
        with pytest.raises(AudioError, match=message):
            vocoder.resynthesize(bad, 8000)
    with pytest.raises(AudioError, match="is 0; it should be a positive whole number of Hz"):
        vocoder.resynthesize(audio, 0)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (np.where(np.arange(80).reshape(8, 10) == 13, np.nan, -5.0), "1 values.*band 1 at frame 3"),
        (np.zeros((9, 10), np.float32), "9 bands.*should have 8"),
        (np.zeros((8, 0), np.float32), "at least one frame"),
        (np.zeros((10, 8), np.float32), "transposed"),
        (np.zeros(8, np.float32), r"shape \(8,\)"),
        (np.zeros((8, 10), np.int32), "int32"),
        (np.zeros((0, 8, 10), np.float32), "it should contain at least one mel"),
    ],
)
def test_invalid_mels_raise(vocoder, mel, message, check):
    with pytest.raises(MelError, match=message):
        vocoder.synthesize(mel, check=check)
    if mel.shape[0] and mel.ndim == 2:
        with pytest.raises(MelError, match=message):
            list(vocoder.stream([mel_of(3), mel]))


def test_mels_of_another_scale_raise(vocoder):
    audio = np.random.default_rng(0).normal(0, 0.2, 8000).astype(np.float32)
    audio[2000:5000] = 0
    mel = vocoder.log_mel(audio, 8000)
    assert vocoder.synthesize(mel).shape == (8000,)
    with pytest.raises(MelError, match=r"base 10.*2\.3026"):
        vocoder.synthesize(mel / np.log(10))
    decibels = 20 * mel / np.log(10)
    with pytest.raises(MelError, match="decibels"):
        vocoder.synthesize(decibels)
    with pytest.raises(MelError, match="decibels"):
        list(vocoder.stream(np.array_split(decibels, 50, axis=1)))
    with pytest.warns(JaxvoiceWarning, match="below the logarithm's floor"):
        vocoder.synthesize(np.where(mel < -11, mel - 1, mel))
    # Warnings are errors in tests, so these calls show that the scale is not checked.
    audio = vocoder.synthesize(decibels, check=False)
    assert_same(np.concatenate(list(vocoder.stream([decibels], check=False))), audio)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(vocoder, dtype):
    mel = jnp.asarray(mel_of(40)).astype(dtype)
    expected = vocoder.synthesize(np.asarray(mel.astype(jnp.float32)))
    for given in (mel, np.asarray(mel)):
        assert_same(vocoder.synthesize(given), expected)
        assert_same(vocoder.synthesize(given, check=False), expected)
        assert_same(np.concatenate(list(vocoder.stream([given[:, :30], given[:, 30:]]))), expected)
    assert_same(vocoder.synthesize(jnp.stack([mel, mel]))[1], expected)
    audio = jnp.asarray(np.random.default_rng(0).normal(0, 0.1, 800), dtype)
    assert_same(vocoder.resynthesize(audio, 8000), vocoder.resynthesize(audio.astype(jnp.float32), 8000))
    with pytest.raises(MelError, match="band 1 at frame 2"):
        vocoder.synthesize(mel.at[1, 2].set(jnp.nan), check=False)


def test_values_out_of_range_of_float32_raise(vocoder):
    with pytest.raises(MelError, match="infinite"):
        vocoder.synthesize(np.full((8, 4), -1e300), check=False)


def test_warnings_point_to_the_caller(vocoder):
    audio = np.random.default_rng(0).normal(0, 0.2, 8000).astype(np.float32)
    audio[2000:5000] = 0
    mel = vocoder.log_mel(audio, 8000)
    mel = np.where(mel < -11, mel - 1, mel)
    calls = [
        lambda: vocoder.synthesize(mel),
        lambda: vocoder.synthesize([mel, mel]),
        lambda: vocoder.synthesize(mel[None]),
        lambda: [len(chunk) for chunk in vocoder.stream([mel[:, :200], mel[:, 200:]])],
        lambda: list(vocoder.stream([mel[:, 120:180]])),
    ]
    for call in calls:
        with pytest.warns(JaxvoiceWarning) as caught:
            call()
        assert {(warning.filename, warning.lineno) for warning in caught} == {(__file__, call.__code__.co_firstlineno)}


@pytest.mark.parametrize("rate", [8000.0, np.int64(8000), np.float32(8000)])
def test_sample_rates_may_have_any_integer_type(vocoder, rate):
    audio = np.sin(np.arange(800) * 0.3).astype(np.float32) * 0.5
    assert_same(vocoder.resynthesize(audio, rate), vocoder.resynthesize(audio, 8000))
    assert vocoder.resynthesize(audio, 2 * rate).shape == (400,)


@pytest.mark.parametrize("rate", ["8000", 8000.5, np.nan, None])
def test_invalid_sample_rates_raise(vocoder, rate):
    with pytest.raises(AudioError, match=re.escape(f"is {rate!r}; it should be a positive whole number of Hz")):
        vocoder.resynthesize(np.zeros(800, np.float32), rate)


def test_log_mel_of_long_audio_equals_one_transform(vocoder):
    audio = np.random.default_rng(0).normal(0, 0.1, 16 * 2100 + 5).astype(np.float32)
    np.testing.assert_allclose(vocoder.log_mel(audio, 8000), np.asarray(log_mel(audio, vocoder.mel)), rtol=0, atol=2e-4)


def test_log_mel_with_pre_emphasis_equals_dsp_in_every_frame(config):
    config = dataclasses.replace(config, mel=dataclasses.replace(config.mel, preemphasis=0.98))
    vocoder = HiFiGANVocoder(loud_generator(config), config, window=WINDOW)
    audio = np.random.default_rng(0).normal(0, 0.1, 16 * 50 + 5).astype(np.float32)
    expected = np.asarray(log_mel(audio, config.mel))
    np.testing.assert_allclose(vocoder.log_mel(audio, 8000), expected, rtol=0, atol=2e-4)


def test_contradictory_arguments_raise(generator, config):
    with pytest.raises(ConfigError, match=r"upsample_initial_channel: 16 != 32"):
        HiFiGANVocoder(generator, small_config(upsample_initial_channel=32))
    with pytest.raises(ConfigError, match="it should be larger than the receptive field"):
        HiFiGANVocoder(generator, config, window=8)


def test_loaded_vocoder_equals_the_saved_one(tmp_path, generator, config, vocoder, capsys):
    FAMILY.save_network(tmp_path / "run" / "model", generator, config, info={"licence": "CC BY 4.0"})
    mel = mel_of(20)
    for folder in (tmp_path / "run" / "model", tmp_path / "run", str(tmp_path / "run")):
        loaded = HiFiGANVocoder.load(folder)
        assert loaded.config == config and loaded.sample_rate == 8000 and loaded.mel == config.mel
        assert_same(loaded.synthesize(mel, check=False), vocoder.synthesize(mel, check=False))
    assert "CC BY 4.0" in capsys.readouterr().err
