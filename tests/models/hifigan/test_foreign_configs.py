"""Configurations of other implementations, compared with their computation of mels."""

import json
import math

import librosa
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.config import to_dict
from jaxvoice.dsp.coqui_mels import coqui_mel
from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.foreign_configs import read_foreign_config
from jaxvoice.weights.foreign_settings import read_settings
from tests.models.hifigan.released import CONFIG, COQUI_AUDIO, COQUI_CONFIG

VITS = {
    "model": "vits",
    "audio": {"sample_rate": 16000, "hop_length": 256},
    "model_args": {
        "hidden_channels": 192,
        "resblock_type_decoder": "2",
        "upsample_rates_decoder": [8, 8, 4],
        "upsample_kernel_sizes_decoder": [16, 16, 8],
        "upsample_initial_channel_decoder": 256,
        "resblock_kernel_sizes_decoder": [3, 5, 7],
        "resblock_dilation_sizes_decoder": [[1, 2], [2, 6], [3, 12]],
    },
}


def expected_mel(audio, settings):
    """coqui's normalised mel, step by step with librosa."""
    if settings.get("preemphasis"):
        audio = np.append(audio[0], audio[1:] - settings["preemphasis"] * audio[:-1])
    sizes = {name: settings[name] for name in ("hop_length", "win_length")}
    spectrum = np.abs(librosa.stft(audio, n_fft=settings["fft_size"], pad_mode="reflect", **sizes))
    filters = librosa.filters.mel(
        sr=settings["sample_rate"],
        n_fft=settings["fft_size"],
        n_mels=settings["num_mels"],
        fmin=settings["mel_fmin"],
        fmax=settings["mel_fmax"],
    )
    log = {"np.log10": np.log10, "np.log": np.log}[settings["log_func"]]
    level = settings["spec_gain"] * log(np.maximum(1e-5, filters @ spectrum))
    if not settings["signal_norm"]:
        return level
    top, low = settings["max_norm"], settings["min_level_db"]
    scaled = (level - settings["ref_level_db"] - low) / -low
    bottom = -top if settings["symmetric_norm"] else 0
    scaled = (top - bottom) * scaled + bottom
    return np.clip(scaled, bottom, top) if settings["clip_norm"] else scaled


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"symmetric_norm": False, "max_norm": 1.0},
        {"clip_norm": False},
        {"signal_norm": False, "spec_gain": 1, "log_func": "np.log"},
        {"preemphasis": 0.97, "mel_fmax": None, "min_level_db": -80, "ref_level_db": 0},
    ],
)
def test_coqui_mels_equal_librosa(change):
    settings = {**COQUI_AUDIO, **change}
    contract, assumed = coqui_mel(settings)
    audio = np.random.default_rng(0).normal(0, 0.1, 6000).astype(np.float32)
    audio[2000:4000] *= 1e-4
    expected = expected_mel(audio.astype(np.float64), settings)
    np.testing.assert_allclose(log_mel(jnp.asarray(audio), contract), expected, atol=2e-3)
    assert bool(assumed) == (not settings["clip_norm"] or not settings["signal_norm"])


def test_coqui_defaults_give_the_documented_contract():
    contract, assumed = coqui_mel({**COQUI_AUDIO, "mel_fmin": 0.0, "mel_fmax": None})
    wanted = MelConfig(fmax=None, magnitude_floor=0.0, center=True, log="log10", gain=1.6, offset=2.4, clip=(-4.0, 4.0))
    assert contract == wanted and assumed == ()


def test_lengths_in_milliseconds_become_samples():
    settings = {**COQUI_AUDIO, "hop_length": None, "frame_length_ms": 50.0, "frame_shift_ms": 12.5, "fft_size": 2048}
    contract, _ = coqui_mel(settings)
    assert (contract.win_length, contract.hop_length) == (1102, 275)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stats_path": "scale_stats.npy"}, "scale_stats.npy"),
        ({"do_amp_to_db_mel": False}, "do_amp_to_db_mel"),
        ({"stft_pad_mode": "constant"}, "stft_pad_mode"),
        ({"log_func": "np.log2"}, r"np\.log2"),
    ],
)
def test_unsupported_mel_settings_raise_an_error(change, message):
    with pytest.raises(ConfigError, match=message):
        coqui_mel({**COQUI_AUDIO, **change})


def test_loudness_normalisation_is_reported():
    assert "do_sound_norm" in coqui_mel({**COQUI_AUDIO, "do_sound_norm": True})[1][0]


def test_released_configuration_is_read():
    found = read_foreign_config(CONFIG, "config.json")
    assert found.kind == "jik876" and found.mel == MelConfig() and found.decay == 0.99
    assert found.generator["resblock_dilation_sizes"] == ((1, 2), (2, 6), (3, 12))
    other = read_foreign_config(
        {**CONFIG, "sampling_rate": 24000, "fmax": 12000, "fmin": 40, "fmax_for_loss": 9000}, "x"
    )
    assert other.mel == MelConfig(sample_rate=24000, fmax=12000.0, fmin=40.0) and "9000" in other.assumed[0]


def test_coqui_vocoder_reads_two_dilations_of_the_second_block():
    found = read_foreign_config(COQUI_CONFIG, "config.json")
    assert found.generator["resblock_dilation_sizes"] == ((1, 2), (2, 6), (3, 12))
    assert found.generator["upsample_rates"] == (8, 8, 4) and found.segment_size == 8192


def test_generators_of_larger_models_read_latents():
    found = read_foreign_config(VITS, "x")
    assert found.mel == LatentConfig(16000, 256, 192) and found.generator["in_channels"] == 192
    xtts = read_foreign_config(
        {
            "model": "xtts",
            "model_args": {
                "decoder_input_dim": 1024,
                "output_sample_rate": 24000,
                "output_hop_length": 256,
                "d_vector_dim": 512,
                "cond_d_vector_in_each_upsampling_layer": True,
            },
        },
        "x",
    )
    assert xtts.mel == LatentConfig(24000, 256, 1024)
    assert xtts.generator == {"in_channels": 1024, "cond_channels": 512, "cond_in_each_stage": True}
    first = read_foreign_config(
        {
            "data": {"sampling_rate": 22050},
            "model": {
                "inter_channels": 192,
                "gin_channels": 256,
                **{name: CONFIG[name] for name in CONFIG if name.startswith(("upsample", "resblock"))},
            },
        },
        "x",
    )
    assert first.mel == LatentConfig(22050, 256, 192) and first.generator["cond_channels"] == 256


def test_comments_are_allowed_and_strings_unchanged(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{ // a comment\n "url": "http://x", /* more\n "b": 1 */ "c": "a \\" // b" }', encoding="utf-8")
    assert read_settings(path) == {"url": "http://x", "c": 'a " // b'}


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": }', "nonsense", "[" * 100000])
def test_files_without_settings_raise_an_error(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json"):
        read_settings(path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "something else"}, "not a known HiFi-GAN configuration"),
        ({key: value for key, value in CONFIG.items() if key != "hop_size"}, "hop_size"),
        ({**CONFIG, "hop_size": "256"}, "hop_size is '256'; it should be a whole number"),
        ({**CONFIG, "fmax": 20000}, "Nyquist"),
        ({**COQUI_CONFIG, "generator_model": "melgan_generator"}, "melgan_generator"),
        ({**COQUI_CONFIG, "audio": {}}, "sample_rate"),
        ({"family": "hifigan", "config": {"generator": {"inchannels": 3}}}, "in_channels"),
    ],
)
def test_unusable_configurations_raise_an_error(table, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_foreign_config(table, "some/config.json")
    assert "some/config.json" in str(caught.value)


HOSTILE = [
    "8192", "\ud800\x1b[31m", -5, 0, 10**15, 10**400, math.nan, math.inf, True, [], [1], [[8], 8, 4], {}, {"a": "|"},
    [8, 8, math.nan], [8, 8, 10**300], [2] * 10**5, [[1, 3]] * 10**5, 1e300, 2**50, "x" * 10**6, b"\x00", 1j, object(),
]  # fmt: skip


def every_entry(table):
    """The paths of all values in a nested table."""
    for name, value in table.items():
        yield (name,)
        if isinstance(value, dict):
            yield from ((name, *below) for below in every_entry(value))


def changed(table, place, value):
    name, *below = place
    return {**table, name: changed(table[name], below, value) if below else value}


OPTIONAL = {"segment_size": 8192, "lr_decay": 0.9, "fmax_for_loss": 3, "model": "vits"}
COQUI_OPTIONAL = {"lr_scheduler_gen_params": {"gamma": 0.9}}
LENGTHS = {"fft_size": 2048, "hop_length": None, "win_length": None, "frame_length_ms": 50, "frame_shift_ms": 12.5}
ORIGINAL = {"data": {"sampling_rate": 22050}, "model": {**CONFIG, "inter_channels": 192, "gin_channels": 256}}


@pytest.mark.parametrize(
    "table",
    [
        {**CONFIG, **OPTIONAL},
        {**COQUI_CONFIG, **COQUI_OPTIONAL},
        {**COQUI_CONFIG, "audio": {**COQUI_AUDIO, **LENGTHS, "do_rms_norm": True}},
        VITS,
        {"model": "xtts", "model_args": {"decoder_input_dim": 1024, "d_vector_dim": 512, "output_sample_rate": 24000}},
        ORIGINAL,
        {"family": "hifigan", "config": to_dict(HiFiGANConfig())},
    ],
    ids=["released", "coqui", "milliseconds", "vits", "xtts", "vits of jaywalnut310", "ours"],
)
def test_hostile_values_raise_an_error_or_are_kept(table):
    read_foreign_config(table, "x")
    for place in every_entry(table):
        for value in HOSTILE:
            try:
                found = read_foreign_config(changed(table, place, value), "x")
                assert all(math.isfinite(number) for number in (found.segment_size or 1, found.decay or 1))
                assert "".join(found.assumed).isprintable() and len("".join(found.assumed)) < 1000
            except ConfigError as failure:
                assert len(str(failure)) < 1500 and str(failure).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 60_000,
        '"' + '\\"' * 60_000 + "\\",
        '"/* "' * 50_000,
        "/*" * 200_000,
        "//" * 200_000,
        "/* " * 100_000 + "*",
        '{"a": "' + "x" * 2**20 + '"}',
        '{"a": ' + "9" * 5000 + "}",
    ],
    ids=["quotes", "quotes and backslash", "strings", "comments", "slashes", "unclosed", "large", "digits"],
)
def test_hostile_files_raise_an_error(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        read_settings(tmp_path / "config.json")
    assert len(str(caught.value)) < 500


def test_byte_order_mark_is_accepted(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert read_settings(tmp_path / "config.json") == {"a": 1}


def test_missing_coqui_settings_are_reported():
    lacking = {name: value for name, value in COQUI_AUDIO.items() if name not in ("ref_level_db", "max_norm")}
    contract, (line,) = coqui_mel(lacking)
    assert contract == coqui_mel(COQUI_AUDIO)[0] and (contract.gain, contract.offset) == (1.6, 2.4)
    assert line.endswith("missing audio settings: ref_level_db 20, max_norm 4")
    contract, (line,) = coqui_mel({"sample_rate": 22050, "hop_length": 256, "win_length": 1024})
    assert contract == coqui_mel({**COQUI_AUDIO, "mel_fmin": 0.0, "mel_fmax": None})[0]
    for name in COQUI_AUDIO.keys() - {"sample_rate", "hop_length", "win_length", "stats_path"}:
        assert f"{name} " in line
    assert coqui_mel({**COQUI_AUDIO, "num_mels": None})[1][0].endswith("missing audio settings: num_mels 80")
    # coqui's audio processor replaces null by its defaults.
    assert coqui_mel({**COQUI_AUDIO, "ref_level_db": None, "max_norm": None})[0].clip == (-1.0, 1.0)


def test_missing_settings_of_the_release_are_reported():
    lacking = {name: value for name, value in CONFIG.items() if name not in ("fmax", "fmin")}
    found = read_foreign_config(lacking, "x")
    assert found.assumed == ("fmin, fmax: not in the configuration; 80 bands from 0 to 11025 Hz",)
