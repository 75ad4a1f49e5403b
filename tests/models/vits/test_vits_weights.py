"""Import of released checkpoints and export to the same names; the original is compared with torch."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

import jaxvoice
from experiments.benchmarks import torch_vits
from experiments.benchmarks.torch_hifigan import arrays_of, load_arrays
from jaxvoice.errors import CheckpointError, ConfigError, DataError
from jaxvoice.models.vits import FAMILY, VITS, VITSDiscriminators, preset, whole_durations
from jaxvoice.models.vits.config import DurationConfig, TextEncoderConfig
from jaxvoice.models.vits.released_export import coqui_config as coqui_settings, original_config as original_settings
from jaxvoice.models.vits.released_settings import read_coqui, read_original
from jaxvoice.models.vits.weights import discriminator_shapes, geometry, vits_shapes
from jaxvoice.nn import length_mask
from jaxvoice.text import VITS_SYMBOLS, YOURTTS_SYMBOLS
from jaxvoice.weights import named_arrays
from jaxvoice.weights.training_files import read_training_file
from tests.models.vits.released import last
from tests.models.vits.small import SMALL

DETERMINISTIC = dataclasses.replace(
    SMALL, durations=dataclasses.replace(SMALL.durations, kind="deterministic", norm_eps=1e-5)
)
DECODER = {
    "resblock": "2",
    "upsample_rates": (8, 8, 4),
    "upsample_kernel_sizes": (16, 16, 8),
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1,),),
}
ORIGINAL = {
    "train": {"segment_size": 1024},
    "data": {
        "sampling_rate": 22050,
        "filter_length": 1024,
        "hop_length": 256,
        "win_length": 1024,
        "n_mel_channels": 80,
        "mel_fmin": 0.0,
        "mel_fmax": None,
        "add_blank": True,
        "n_speakers": 3,
    },
    "model": {
        "inter_channels": 8,
        "hidden_channels": 8,
        "filter_channels": 12,
        "n_heads": 2,
        "n_layers": 1,
        "kernel_size": 3,
        "p_dropout": 0.1,
        "gin_channels": 10,
        **{name: value for name, value in DECODER.items() if name != "resblock_dilation_sizes"},
        "resblock_dilation_sizes": [[1, 3]],
    },
}


def random_arrays(shapes, seed=0):
    """Weights drawn by numpy, by name."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        scale = 1.0 if name.endswith(("_g", "original0", "gamma")) else 0.0
        spread = 0.1 if len(shape) == 1 or scale else 1 / np.sqrt(np.prod(shape[1:]))
        arrays[name] = (scale + random.normal(0, spread, shape)).astype(np.float32)
    return arrays


def torch_network(*, stochastic=True, dilations=((1, 3),)):
    network = torch_vits.VITS(
        channels=8,
        hidden=12,
        layers=1,
        window=2,
        posterior_layers=2,
        flow_layers=2,
        flows=2,
        stochastic=stochastic,
        duration_channels=6,
        duration_flows=2,
        spline_bins=4,
        speakers=3,
        cond=10,
        decoder={**DECODER, "resblock_dilation_sizes": dilations},
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    load_arrays(network, random_arrays(shapes))
    return network.eval()


def original_checkpoint(folder, network, *, discriminators=True):
    """The files `G_10.pth`, `D_10.pth` and `config.json`."""
    torch.save({"model": network.state_dict(), "iteration": 10, "learning_rate": 2e-4}, folder / "G_10.pth")
    if discriminators:
        shapes = {
            name.replace("disc.nets", "discriminators"): shape
            for name, shape in discriminator_shapes(ORIGINAL_CONFIG).items()
        }
        state = {name: torch.from_numpy(array) for name, array in random_arrays(shapes, 1).items()}
        torch.save({"model": state}, folder / "D_10.pth")
    (folder / "config.json").write_text(json.dumps(ORIGINAL), encoding="utf-8")


ORIGINAL_CONFIG = dataclasses.replace(
    SMALL,
    symbols=VITS_SYMBOLS,
    num_speakers=3,
    languages=(),
    decoder=dataclasses.replace(SMALL.decoder, resblock_dilation_sizes=((1, 3),)),
    discriminators=preset("ljspeech").discriminators,
)


@pytest.mark.parametrize("config", [SMALL, DETERMINISTIC, ORIGINAL_CONFIG, preset("yourtts"), preset("original_vctk")])
def test_shapes_match_the_networks(config):
    network = eqx.filter_eval_shape(VITS, config, key=jax.random.key(0))
    assert vits_shapes(config) == {name: array.shape for name, array in named_arrays(network).items()}
    discriminators = eqx.filter_eval_shape(VITSDiscriminators, config.discriminators, key=jax.random.key(0))
    expected = {f"disc.{name}": array.shape for name, array in named_arrays(discriminators).items()}
    assert discriminator_shapes(config) == expected


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The torch network, and its import."""
    folder, network = tmp_path_factory.mktemp("original"), torch_network()
    original_checkpoint(folder, network)
    summary = jaxvoice.import_model(folder / "G_10.pth", folder / "model")
    return network, folder / "model", summary


def test_import_of_the_original_has_its_configuration(original):
    _, folder, summary = original
    _, config = FAMILY.load_network(folder)
    expected = dataclasses.replace(ORIGINAL_CONFIG, durations=dataclasses.replace(SMALL.durations, norm_eps=1e-5))
    assert config == expected
    assert summary.info["origin"] == "jaywalnut310/vits"
    assert summary.info["assumed"] == ["the 178 symbols of the original VITS: the configuration does not state them"]


def test_imported_original_equals_torch(original):
    reference, folder, _ = original
    network, _config = FAMILY.load_network(folder)
    random = np.random.default_rng(3)
    tokens, lengths = random.integers(0, 178, (2, 9)).astype(np.int32), np.array([9, 6], np.int32)
    duration_noise = random.normal(size=(2, 9, 2)).astype(np.float32)
    noise = random.normal(size=(2, 40, 8)).astype(np.float32)
    speakers = np.array([2, 0], np.int32)
    spectrogram = np.abs(random.normal(size=(2, 40, 513))).astype(np.float32)
    counts = np.array([40, 25], np.int32)

    def tensor(array):
        whole = np.issubdtype(array.dtype, np.integer)
        return torch.from_numpy(array.astype(np.int64) if whole else np.array(array))

    @eqx.filter_jit
    def ours(network):
        conditions = network.conditions(speakers, None, (2,))
        text = network.encode_text(tokens, conditions, token_count=lengths, inference=True)
        logs = network.log_durations(text, duration_noise, conditions)
        durations = whole_durations(logs, text.mask)
        latents = network.latents(text, durations, noise, conditions)
        audio = network.waveform_decoder(latents.z, conditions.speaker)
        encoded = network.encode(
            tokens, spectrogram, noise, speakers, token_count=lengths, frame_count=counts, inference=True
        )
        given = np.arange(18).reshape(2, 9).astype(np.float32) % 4 * length_mask(lengths, 9).astype(np.float32)
        loss = network.duration_loss(encoded, given, duration_noise, inference=True)
        converted = network.waveform_decoder(
            network.convert(spectrogram, noise, speakers, speakers[::-1], frame_count=counts).z,
            network.conditions(speakers[::-1], None, (2,)).speaker,
        )
        return durations, audio, encoded.z, encoded.z_p, given, loss, converted

    durations, audio, z, z_p, given, loss, converted = ours(network)
    with torch.no_grad():
        args = tensor(tokens), tensor(lengths), tensor(last(duration_noise)), tensor(last(noise)), tensor(speakers)
        expected_audio, expected_durations = reference.infer(*args)
        expected_z, expected_z_p = reference.encode(tensor(last(spectrogram)), tensor(counts), args[3], args[4])
        mask = tensor(np.array(length_mask(lengths, 9), np.float32))[:, None]
        hidden, *_ = reference.enc_p(args[0], mask)
        condition = reference.condition(args[4])
        expected_loss = reference.dp.loss(hidden, mask, tensor(np.asarray(given))[:, None], args[2], condition)
        swapped = tensor(speakers[::-1].copy())
        expected_speech = reference.convert(tensor(last(spectrogram)), tensor(counts), args[3], args[4], swapped)
    np.testing.assert_array_equal(durations, expected_durations)
    # The torch network stops at the last frame of the longer example.
    samples = expected_audio.shape[-1] - 4 * 256
    assert samples > 256
    np.testing.assert_allclose(audio[:, :samples, 0], expected_audio[:, 0, :samples], atol=1e-5)
    np.testing.assert_allclose(last(z), expected_z, atol=1e-5)
    np.testing.assert_allclose(last(z_p), expected_z_p, atol=1e-5)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    np.testing.assert_allclose(converted[..., 0], expected_speech[:, 0], atol=1e-5)


def test_deterministic_predictors_of_the_original_equal_torch(tmp_path):
    reference = torch_network(stochastic=False)
    original_checkpoint(tmp_path, reference, discriminators=False)
    jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model")
    network, config = FAMILY.load_network(tmp_path / "model")
    assert config.durations.kind == "deterministic" and config.durations.norm_eps == 1e-5
    hidden = np.random.default_rng(0).normal(size=(1, 7, 8)).astype(np.float32)
    predict = eqx.filter_jit(lambda model, *args, mask: model(*args, mask=mask))
    found = predict(
        network.duration_predictor, hidden, None, np.asarray(network.emb_g.weight)[:1], mask=np.ones((1, 7), bool)
    )
    with torch.no_grad():
        condition = reference.condition(torch.tensor([0]))
        expected = reference.dp(torch.from_numpy(last(hidden).copy()), torch.ones(1, 1, 7), None, condition)
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-5)
    jaxvoice.export_model(tmp_path / "model", tmp_path / "export" / "G_10.pth")
    again = torch.load(tmp_path / "export" / "G_10.pth", weights_only=True)["model"]
    assert all(torch.equal(again[name], tensor) for name, tensor in reference.state_dict().items())


def test_exported_original_loads_strictly(original, tmp_path):
    reference, folder, _ = original
    jaxvoice.export_model(folder, tmp_path / "G_11.pth")
    again = torch.load(tmp_path / "G_11.pth", weights_only=True)["model"]
    other = torch_network()
    other.load_state_dict({name: torch.zeros_like(tensor) for name, tensor in other.state_dict().items()})
    other.load_state_dict(again, strict=True)
    expected = arrays_of(reference)
    assert all(np.array_equal(array, expected[name]) for name, array in arrays_of(other).items())
    table = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    # The code of the original fixes sizes that the small network does not have.
    assert table["family"] == "vits" and "model" not in table
    jaxvoice.import_model(tmp_path / "G_11.pth", tmp_path / "again")
    assert FAMILY.load_network(tmp_path / "again")[1] == FAMILY.load_network(folder)[1]


def test_discriminators_of_the_original_are_stored(original):
    _, folder, summary = original
    assert summary.info["training"]["content"] == "discriminators"
    _, arrays = read_training_file(folder)
    assert {name: array.shape for name, array in arrays.items()} == discriminator_shapes(ORIGINAL_CONFIG)


def coqui_config():
    return {
        "model": "vits",
        "model_args": {
            "num_chars": 39,
            "hidden_channels": 8,
            "num_layers_text_encoder": 1,
            "hidden_channels_ffn_text_encoder": 12,
            "spec_segment_size": 4,
            "use_sdp": True,
            "use_d_vector_file": True,
            "d_vector_dim": 10,
            "use_language_embedding": True,
            "embedded_language_dim": 4,
            "resblock_type_decoder": "2",
            "resblock_kernel_sizes_decoder": [3],
            "resblock_dilation_sizes_decoder": [[1, 3, 5]],
            "upsample_rates_decoder": [8, 8, 4],
            "upsample_kernel_sizes_decoder": [16, 16, 8],
            "upsample_initial_channel_decoder": 16,
            "periods_multi_period_discriminator": [2, 3],
            "inference_noise_scale": 0.5,
            "inference_noise_scale_dp": 0.6,
        },
        "audio": {"sample_rate": 16000, "fft_size": 1024, "hop_length": 256, "win_length": 1024, "mel_fmax": None},
        "characters": {
            "characters_class": "TTS.tts.models.vits.VitsCharacters",
            "pad": "_",
            "punctuations": "!'(),-.:;? ",
            "characters": "abcdefghijklmnopqrstuvwxyz",
            "phonemes": "",
        },
        "add_blank": True,
        "text_cleaner": "multilingual_cleaners",
        "datasets": [{"language": "pt"}, {"language": "en"}],
    }


COQUI = dataclasses.replace(
    SMALL,
    mel=dataclasses.replace(SMALL.mel, sample_rate=16000),
    discriminators=dataclasses.replace(SMALL.discriminators, width=1.0),
    decoder=dataclasses.replace(SMALL.decoder, resblock_dilation_sizes=((1, 3),)),
    sampling=dataclasses.replace(SMALL.sampling, noise_scale=0.5, duration_noise_scale=0.6),
    languages=("pt", "en"),
)


def coqui_state(spelling="hooks", *, discriminators=True, extras=True):
    """The state dict of a checkpoint of coqui with the sizes of `COQUI`."""
    arrays = random_arrays(vits_shapes(COQUI), 5)
    if discriminators:
        arrays |= random_arrays(discriminator_shapes(COQUI), 6)
    if spelling == "parametrizations":
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            arrays = {
                name.replace(f".{old}", f".parametrizations.weight.{new}"): array for name, array in arrays.items()
            }
    if extras:
        arrays["speaker_encoder.conv1.weight"] = np.ones((2, 1, 3, 3), np.float32)
        arrays["audio_resampler.kernel"] = np.ones(3, np.float32)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def coqui_bundle(folder, state, *, config=None, languages=True):
    folder.mkdir(exist_ok=True)
    torch.save({"model": state, "step": 7, "optimizer": [{"state": {0: torch.ones(2)}}]}, folder / "model_file.pth")
    (folder / "config.json").write_text(json.dumps(config or coqui_config()), encoding="utf-8")
    if languages:
        (folder / "language_ids.json").write_text('{"en": 1, "pt": 0}', encoding="utf-8")
    clips = {
        "vctk#a": {"name": "p1", "embedding": [1.0] * 10},
        "vctk#b": {"name": "p1", "embedding": [3.0] * 10},
        "vctk#c": {"name": "p2", "embedding": [5.0] * 10},
    }
    (folder / "speakers.json").write_text(json.dumps(clips), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("spelling", "discriminators"), [("hooks", True), ("parametrizations", False)])
def test_bundles_of_coqui_are_imported_and_exported(tmp_path, spelling, discriminators):
    state = coqui_state(spelling, discriminators=discriminators)
    bundle = coqui_bundle(tmp_path / "bundle", state)
    summary = jaxvoice.import_model(bundle, tmp_path / "model")
    network, config = FAMILY.load_network(tmp_path / "model")
    assert config == COQUI
    expected = random_arrays(vits_shapes(COQUI), 5)
    for name, array in named_arrays(network).items():
        np.testing.assert_array_equal(array, expected[name])
    ignored = summary.info["ignored"]
    assert "speaker encoder" in ignored["model.speaker_encoder.conv1.weight"]
    assert "resampling" in ignored["model.audio_resampler.kernel"]
    assert not any(name.startswith("model.disc") for name in ignored)
    assert (tmp_path / "model" / "training.safetensors").exists() == discriminators
    speakers = json.loads((tmp_path / "model" / "speakers.json").read_text(encoding="utf-8"))
    assert {name: row["embedding"][0] for name, row in speakers.items()} == {"p1": 2.0, "p2": 5.0}

    jaxvoice.export_model(tmp_path / "model", tmp_path / "export" / "model_file.pth")
    again = torch.load(tmp_path / "export" / "model_file.pth", weights_only=True)["model"]
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(("speaker_encoder", "audio_"))}
    assert set(again) == set(kept)
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items())
    assert jaxvoice.import_model(tmp_path / "export", tmp_path / "second").family == "vits"
    assert FAMILY.load_network(tmp_path / "second")[1] == config


def test_exports_contain_the_languages_and_speakers_of_a_bundle(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    jaxvoice.import_model(bundle, tmp_path / "model")
    export = tmp_path / "export"
    jaxvoice.export_model(tmp_path / "model", export / "model_file.pth")
    assert json.loads((export / "language_ids.json").read_text(encoding="utf-8")) == {"pt": 0, "en": 1}
    rows = json.loads((export / "speakers.json").read_text(encoding="utf-8"))
    assert {name: (row["name"], *row["embedding"][:2]) for name, row in rows.items()} == {
        "p1": ("p1", 2.0, 2.0),
        "p2": ("p2", 5.0, 5.0),
    }
    # The names are those of the files, not of the configuration of jaxvoice.
    table = coqui_config()
    table["datasets"] = []
    (export / "config.json").write_text(json.dumps(table), encoding="utf-8")
    jaxvoice.import_model(export, tmp_path / "second")
    assert FAMILY.load_network(tmp_path / "second")[1] == FAMILY.load_network(tmp_path / "model")[1]
    for name in ("speakers.json", "model.safetensors"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_exports_keep_files_of_the_same_names_only(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    jaxvoice.import_model(bundle, tmp_path / "model")
    names = ("language_ids.json", "speakers.json", "config.json")
    before = {name: (bundle / name).read_bytes() for name in names}
    jaxvoice.export_model(tmp_path / "model", bundle / "again.pth")
    assert {name: (bundle / name).read_bytes() for name in names} == before
    for name, content in (
        ("language_ids.json", '{"en": 0, "pt": 1}'),
        ("speakers.json", '{"a": {"name": "p1", "embedding": [1, 2, 3]}}'),
        ("speakers.json", json.dumps({"a": {"name": "p1", "embedding": [2.0] * 10}})),
    ):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / name).write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=rf"of another model, in {name} or .*Export to another folder"):
            jaxvoice.export_model(tmp_path / "model", tmp_path / "other" / "x.pth")
        assert [path.name for path in (tmp_path / "other").iterdir()] == [name]
        (tmp_path / "other" / name).unlink()


def test_exports_contain_the_ids_of_a_table_of_speakers(tmp_path, original):
    original_checkpoint(tmp_path, original[0], discriminators=False)
    (tmp_path / "speaker_ids.json").write_text('{"b": 2, "a": 0, "c": 1}', encoding="utf-8")
    jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model")
    jaxvoice.export_model(tmp_path / "model", tmp_path / "export" / "G_10.pth")
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        *("G_10.pth", "config.json", "speaker_ids.json")
    ]
    jaxvoice.import_model(tmp_path / "export" / "G_10.pth", tmp_path / "second")
    assert json.loads((tmp_path / "second" / "speakers.json").read_text(encoding="utf-8")) == dict(a=0, c=1, b=2)


@pytest.mark.parametrize(
    ("released", "read", "config"),
    [
        (coqui_settings, read_coqui, preset("ljspeech")),
        (coqui_settings, read_coqui, preset("vctk")),
        (coqui_settings, read_coqui, preset("yourtts")),
        (original_settings, read_original, preset("original_ljspeech")),
        (original_settings, read_original, preset("original_vctk")),
    ],
)
def test_exported_configurations_state_the_sizes_of_the_tensors(released, read, config):
    if released is coqui_settings:
        config = dataclasses.replace(config, symbols=dataclasses.replace(config.symbols, blank="last"))
    settings = read(json.loads(json.dumps(released(config))))
    sizes = geometry(vits_shapes(config), "the model")
    assert settings.sizes and all(value == sizes[name] for name, (_, value) in settings.sizes.items())
    stated = {name for name, _ in settings.sizes.items()}
    assert {"channels", "text.heads", "text.layers", "durations.kind"} <= stated
    assert ("speaker_channels" in stated) == (config.speaker_channels > 0 or released is coqui_settings)
    decoder = dict(settings.decoder)
    assert decoder == {name: getattr(config.decoder, name) for name in decoder} and len(decoder) == 6
    assert settings.mel == config.mel and settings.fields["segment_frames"] == config.segment_frames


@pytest.mark.parametrize(
    "change",
    [
        {"flows": 3},
        {"text": TextEncoderConfig(window=3)},
        {"durations": DurationConfig(channels=64)},
        {"durations": DurationConfig(bins=8)},
        {"durations": DurationConfig(kernel_size=5)},
        {"durations": DurationConfig("deterministic", channels=192)},
    ],
)
def test_sizes_that_the_releases_fix_in_code_have_no_configuration(change):
    config = dataclasses.replace(preset("ljspeech"), **change)
    assert original_settings(config) == {}
    assert coqui_settings(dataclasses.replace(config, symbols=YOURTTS_SYMBOLS)) == {}


def test_constants_that_no_tensor_contains_decide_on_the_configuration():
    ours = preset("original_ljspeech")
    shallow = dataclasses.replace(ours, posterior=dataclasses.replace(ours.posterior, layers=8))
    assert original_settings(ours) and original_settings(shallow) == {}
    for eps, released in ((1e-4, coqui_settings), (1e-5, original_settings)):
        durations = DurationConfig("deterministic", channels=256, norm_eps=eps)
        config = dataclasses.replace(ours, durations=durations)
        both = {
            coqui_settings: coqui_settings(dataclasses.replace(config, symbols=YOURTTS_SYMBOLS)),
            original_settings: original_settings(config),
        }
        assert [one for one, table in both.items() if table] == [released]


def test_settings_that_no_tensor_contains_are_read():
    table = coqui_config()
    table["model_args"] = {}
    defaults = {
        "posterior.dilation_rate": 1,
        "flow.dilation_rate": 1,
        "text.dropout": 0.1,
        "durations.dropout": 0.5,
        "sampling.noise_scale": 0.667,
        "sampling.duration_noise_scale": 1.0,
        "sampling.length_scale": 1.0,
        "segment_frames": 32,
    }
    assert read_coqui(table).fields == defaults  # of `VitsArgs` in coqui-ai/TTS
    names = (
        "dilation_rate_posterior_encoder",
        "dilation_rate_flow",
        "dropout_p_text_encoder",
        "dropout_p_duration_predictor",
        "inference_noise_scale",
        "inference_noise_scale_dp",
        "length_scale",
        "spec_segment_size",
    )
    values = (2, 3, 0.2, 0.3, 0.4, 0.6, 1.5, 62)
    table["model_args"] = dict(zip(names, values, strict=True)) | {"periods_multi_period_discriminator": [2, 5]}
    expected = dict(zip(defaults, values, strict=True)) | {"discriminators.periods": (2, 5)}
    assert read_coqui(table).fields == expected
    assert read_original(ORIGINAL).fields == {"text.dropout": 0.1, "segment_frames": 4, "durations.norm_eps": 1e-5}
    assert DurationConfig().norm_eps == 1e-4  # of coqui, whose files do not state it


def test_languages_of_the_file_win_over_those_of_the_data(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False), languages=False)
    summary = jaxvoice.import_model(bundle, tmp_path / "derived")
    assert FAMILY.load_network(tmp_path / "derived")[1].languages == ("en", "pt")
    assert any("languages en, pt in this order" in line for line in summary.info["assumed"])
    (bundle / "language_ids.json").write_text('{"en": 0, "pt": 1, "fr": 2}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="it should give each of the ids 0 to 1 to one language"):
        jaxvoice.import_model(bundle, tmp_path / "wrong")
    (bundle / "language_ids.json").write_text('{"": 0, "pt": 1}', encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"languages is \('', 'pt'\); it should contain different names, none of them"
    ):
        jaxvoice.import_model(bundle, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("num_chars", 40, "num_chars in .* means that symbols is 40, but the tensors of model_file.pth have 39"),
        ("d_vector_dim", 512, "d_vector_dim in .* means that speaker_channels is 512, but .* have 10"),
        ("use_d_vector_file", False, "use_d_vector_file in .* means that speaker_channels is 0, but .* have 10"),
        ("use_language_embedding", False, "use_language_embedding in .* language_channels is 0, but .* have 4"),
        ("num_languages", 3, "num_languages in .* means that languages is 3, but .* have 2"),
        ("use_sdp", False, "use_sdp in .* durations.kind is 'deterministic', but .* have 'stochastic'"),
        ("resblock_type_decoder", "1", "resblock of the decoder is '1' in .*, but the tensors .* have '2'"),
        ("resblock_dilation_sizes_decoder", [[1]], r"resblock_dilation_sizes of the decoder is \(\(1,\),\)"),
        ("encoder_sample_rate", 16000, "encoder_sample_rate is 16000; it should be null"),
        ("/text_cleaner", ["x"], r"text_cleaner is \['x'\]; it should be text"),
        ("/text_cleaner", "\ud800", r"contains '\\ud800', which is not valid Unicode"),
    ],
)
def test_configurations_of_other_models_raise_errors(tmp_path, place, value, message):
    config = coqui_config()
    (config if place.startswith("/") else config["model_args"])[place.removeprefix("/")] = value
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False), config=config)
    with pytest.raises((CheckpointError, ConfigError), match=message):
        jaxvoice.import_model(bundle / "model_file.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_other_symbols_raise_errors(tmp_path):
    config = coqui_config()
    config["characters"]["characters"] += "é"
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False), config=config)
    with pytest.raises(CheckpointError, match=r"characters in .* are 40 symbols, but the text encoder of .* has 39"):
        jaxvoice.import_model(bundle, tmp_path / "model")
    config["characters"]["characters_class"] = "TTS.tts.utils.text.characters.Graphemes"
    coqui_bundle(bundle, coqui_state(discriminators=False), config=config)
    with pytest.raises(ConfigError, match=r"characters_class is .*Graphemes'; it should be VitsCharacters"):
        jaxvoice.import_model(bundle, tmp_path / "model")
    (bundle / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"symbols and the sample rate of model_file.pth are unknown; pass its"):
        jaxvoice.import_model(bundle / "model_file.pth", tmp_path / "model")


def test_speaker_files_of_other_models_raise_errors(tmp_path, original):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    (bundle / "speakers.json").write_text('{"a": {"name": "p1", "embedding": [1, 2, 3]}}', encoding="utf-8")
    with pytest.raises(DataError, match="contains vectors of 3 numbers; they should have 10"):
        jaxvoice.import_model(bundle, tmp_path / "model")
    clips = {name: {"name": "p1", "embedding": [number] * 10} for name, number in (("a", 1.0), ("b", -1.0))}
    (bundle / "speakers.json").write_text(json.dumps(clips), encoding="utf-8")
    with pytest.raises(DataError, match=r"vector of the speaker 'p1' in .* contains only zeros"):
        jaxvoice.import_model(bundle, tmp_path / "model")
    original_checkpoint(tmp_path, original[0], discriminators=False)
    for ids in ('{"a": 0, "b": 1, "c": 3}', '{"a": 0, "b": 1, "c": 1}', '{"a": 0, "b": 2}', "{}", "[0, 1, 2]"):
        (tmp_path / "speaker_ids.json").write_text(ids, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"each of the ids from 0 to 2 to one name, because the model has 3"):
            jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model")
    ids = {"b": 2, "c": 1, "a": 0}
    (tmp_path / "speaker_ids.json").write_text(json.dumps(ids), encoding="utf-8")
    jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model")
    assert json.loads((tmp_path / "model" / "speakers.json").read_text(encoding="utf-8")) == ids
    (tmp_path / "speaker_ids.json").unlink()
    torch.save(ids, tmp_path / "speaker_ids.pth")
    jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "other")
    assert json.loads((tmp_path / "other" / "speakers.json").read_text(encoding="utf-8")) == ids


def test_discriminators_of_another_kind_raise_errors(tmp_path, original):
    original_checkpoint(tmp_path, original[0])
    torch.save({"model": {"x": torch.ones(2)}}, tmp_path / "D_10.pth")
    with pytest.raises(CheckpointError, match=r"D_10.pth contains no discriminators of VITS with the periods"):
        jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model")
    assert jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model", training=False).family == "vits"


def test_decoders_inside_a_network_are_imported_as_vocoders_on_request(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False, extras=False))
    file = bundle / "model_file.pth"
    with pytest.raises(CheckpointError, match="alone can be imported with --family hifigan --part 'waveform_decoder'"):
        jaxvoice.import_model(file, tmp_path / "model", part="waveform_decoder")
    summary = jaxvoice.import_model(file, tmp_path / "model", family="hifigan", part="waveform_decoder")
    assert summary.family == "hifigan"
    vocoder = jaxvoice.Vocoder.load(tmp_path / "model")
    latents = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    vector = np.ones(10, np.float32)
    jaxvoice.import_model(file, tmp_path / "vits")
    network, _ = FAMILY.load_network(tmp_path / "vits")
    decode = eqx.filter_jit(lambda network, *args: network.waveform_decoder(*args)[:, 0])
    np.testing.assert_allclose(vocoder.synthesize(latents, cond=vector), decode(network, latents.T, vector), atol=1e-5)


@pytest.mark.slow
def test_layers_of_models_and_exports_are_compared(original, tmp_path):
    _, folder, _ = original
    jaxvoice.export_model(folder, tmp_path / "G_11.pth")
    found = jaxvoice.compare(folder, tmp_path / "G_11.pth")
    assert found.same and len(found.layers) > 50
    network, config = FAMILY.load_network(folder)
    changed = eqx.tree_at(lambda network: network.flow.flows[0].post.bias, network, replace_fn=lambda bias: bias + 1)
    FAMILY.save_network(tmp_path / "changed", changed, config)
    found = jaxvoice.compare(folder, tmp_path / "changed")
    assert found.diverging is not None and found.diverging.name.startswith("flow.flows.0.post")
