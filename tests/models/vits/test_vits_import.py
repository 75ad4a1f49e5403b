"""Import of released checkpoints; the original is compared with torch."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest
import torch

import jaxvoice
from jaxvoice.config import to_dict
from jaxvoice.errors import CheckpointError, ConfigError, DataError
from jaxvoice.models.checkpoint_layout import UNKNOWN_LICENCE
from jaxvoice.models.vits import FAMILY, VITS, DurationPredictor, VITSDiscriminators, preset, whole_durations
from jaxvoice.models.vits.config import ORIGINAL_NORMS, DurationConfig
from jaxvoice.models.vits.released_settings import read_coqui, read_original
from jaxvoice.models.vits.weights import discriminator_shapes, vits_shapes
from jaxvoice.nn import length_mask
from jaxvoice.weights import named_arrays
from jaxvoice.weights.model_folder import write_model_folder
from jaxvoice.weights.training_files import read_training_file
from tests.models.vits.released import (
    COQUI,
    ORIGINAL,
    ORIGINAL_CONFIG,
    coqui_bundle,
    coqui_config,
    coqui_state,
    last,
    original_checkpoint,
    random_arrays,
    torch_network,
)
from tests.models.vits.small import SMALL

DETERMINISTIC = dataclasses.replace(
    SMALL, durations=dataclasses.replace(SMALL.durations, kind="deterministic", **ORIGINAL_NORMS)
)


@pytest.mark.parametrize("config", [SMALL, DETERMINISTIC, ORIGINAL_CONFIG, preset("yourtts"), preset("original_vctk")])
def test_shapes_match_the_networks(config):
    network = eqx.filter_eval_shape(VITS, config, key=jax.random.key(0))
    assert vits_shapes(config) == {name: array.shape for name, array in named_arrays(network).items()}
    discriminators = eqx.filter_eval_shape(VITSDiscriminators, config.discriminators, key=jax.random.key(0))
    expected = {f"disc.{name}": array.shape for name, array in named_arrays(discriminators).items()}
    assert discriminator_shapes(config) == expected


def test_import_of_the_original_has_its_configuration(original):
    _, folder, summary = original
    _, config = FAMILY.load_network(folder)
    expected = dataclasses.replace(ORIGINAL_CONFIG, durations=dataclasses.replace(SMALL.durations, **ORIGINAL_NORMS))
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
    new = eqx.filter_jit(lambda key: DurationPredictor(config, key=key).norm_1.gamma)(jax.random.key(0))
    assert (np.asarray(new) == 1).all()
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


def test_discriminators_of_the_original_are_stored(original):
    _, folder, summary = original
    assert summary.info["training"]["content"] == "discriminators"
    _, arrays = read_training_file(folder)
    assert {name: array.shape for name, array in arrays.items()} == discriminator_shapes(ORIGINAL_CONFIG)


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
    assert read_original(ORIGINAL).fields == {
        **{"text.dropout": 0.1, "segment_frames": 4},
        **{"durations.norm_eps": 1e-5, "durations.norm_gain": 1.0},
    }
    # Of coqui, whose files do not state them.
    assert (DurationConfig().norm_eps, DurationConfig().norm_gain) == (1e-4, 0.1)


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


def test_languages_of_the_file_beside_an_export_win(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    jaxvoice.import_model(bundle, tmp_path / "model")
    export = tmp_path / "export"
    jaxvoice.export_model(tmp_path / "model", export / "model_file.pth")
    for text, message in (
        ('{"en": 0, "pt": 1, "fr": 2}', r"language_ids.json contains .* each of the ids 0 to 1 to one language"),
        ('{"en": 0, "": 1}', r"language_ids.json: .*it should contain different names, none of them empty"),
    ):
        (export / "language_ids.json").write_text(text, encoding="utf-8")
        with pytest.raises((CheckpointError, ConfigError), match=message):
            jaxvoice.import_model(export, tmp_path / "wrong")
    (export / "language_ids.json").write_text('{"en": 0, "fr": 1}', encoding="utf-8")
    jaxvoice.import_model(export, tmp_path / "second")
    assert FAMILY.load_network(tmp_path / "second")[1].languages == ("en", "fr")


def test_summaries_state_speakers_and_languages(tmp_path, original):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    text = str(jaxvoice.import_model(bundle, tmp_path / "model"))
    assert "\nspeakers 2: 'p1', 'p2'\nlanguage 'pt', 'en'\n" in text
    assert "note     voices of recordings need the speaker encoder of the model: import model_se.pth to the" in text
    (bundle / "speakers.json").unlink()
    (bundle / "model_se.pth").touch()
    text = str(jaxvoice.import_model(bundle, tmp_path / "unnamed"))
    assert f"\nspeakers none: there is no speakers.json in {bundle}\n" in text
    assert f"import {bundle / 'model_se.pth'} to the folder speaker_encoder inside the model folder" in text
    text = str(original[2])
    assert "\nspeakers 3, called by their ids: there is no speaker_ids.json or speakers.json in" in text
    assert "language " not in text and "note " not in text


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
        (
            "upsample_rates_decoder",
            [8, 8, 4, 1],
            r"upsample_rates of the .* but .* model_file.pth have 3 stages of ups",
        ),
        (
            "upsample_rates_decoder",
            [8, 8, 3],
            r"The decoder in .*config.json and model_file.pth: .*upsample_kernel_sizes",
        ),
        ("out_channels", 1025, r"out_channels is 1025, but audio.fft_size is 1024; out_channels should be .*, 513"),
        (
            "/audio",
            {"sample_rate": 16000, "fft_size": 2048},
            "audio.fft_size in .* means that bins is 1025, but .* 513",
        ),
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
    for clip, message in (
        ({"name": "p1", "embedding": [float("nan")] * 10}, r"speakers.json: The embedding of 'a' contains NaN"),
        ({"name": "", "embedding": [1.0] * 10}, r"speakers.json contains a speaker whose name is ''"),
    ):
        (bundle / "speakers.json").write_text(json.dumps({"a": clip}), encoding="utf-8")
        with pytest.raises((CheckpointError, DataError), match=message):
            jaxvoice.import_model(bundle, tmp_path / "model")
    original_checkpoint(tmp_path, original[0], discriminators=False)
    for ids in ('{"a": 0, "b": 1, "c": 3}', '{"a": 0, "b": 1, "c": 1}', '{"a": 0, "b": 2}', "{}", "[0, 1, 2]"):
        (tmp_path / "speaker_ids.json").write_text(ids, encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"each of the ids from 0 to 2 to one name, because the model has 3"):
            jaxvoice.import_model(tmp_path / "G_10.pth", tmp_path / "model")
    (tmp_path / "speaker_ids.json").write_text('{"a": 0, "": 1, "c": 2}', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"speaker_ids.json contains a speaker whose name is ''; every speaker"):
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


def test_folders_that_are_no_bundles_are_errors_with_advice(tmp_path):
    for files, advice in (
        (
            ("G_9.pth", "G_10.pth", "D_10.pth", "config.json"),
            r"checkpoints of VITS; pass the path of one, .*G_10.pth\.$",
        ),
        (("G_9.pth",), r"such as .*G_9.pth with its configuration \(--config\)\.$"),
        (
            ("model_file.pth",),
            r"config.json is missing beside model_file.pth; restore it, or pass the path of .*--config",
        ),
        (
            ("model.pth", "best_model.pth", "config.json"),
            r"contains several weight files, model.pth, best_model.pth; pass",
        ),
        (("model_se.pth", "config_se.json"), r"contains a speaker encoder; pass .*model_se.pth to import it\.$"),
        (("model.pth", "config.json"), r"It contains config.json, model.pth. Pass the path of the weight file\.$"),
    ):
        folder = tmp_path / "+".join(files)
        folder.mkdir()
        for name in files:
            (folder / name).write_text("{}", encoding="utf-8")
        with pytest.raises(CheckpointError, match=advice) as raised:
            jaxvoice.import_model(folder, tmp_path / "model")
        assert len(str(raised.value)) < 300 + 3 * len(str(folder))


def test_licences_are_those_of_the_release_or_of_the_export(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    assert jaxvoice.import_model(bundle, tmp_path / "model").info["licence"] == UNKNOWN_LICENCE
    wide = dataclasses.replace(
        COQUI, speaker_channels=512, decoder=dataclasses.replace(COQUI.decoder, cond_channels=512)
    )
    for info, expected in (({"licence": "CC0"}, "CC0"), ({}, UNKNOWN_LICENCE)):
        folder, export = tmp_path / f"own {len(info)}", tmp_path / f"export {len(info)}"
        write_model_folder(
            folder, family="vits", config=to_dict(wide), arrays=random_arrays(vits_shapes(wide)), info=info
        )
        jaxvoice.export_model(folder, export / "model_file.pth")
        assert jaxvoice.import_model(export, tmp_path / f"again {len(info)}").info["licence"] == expected
    # The settings of the release alone, as in its bundle.
    table = coqui_config()
    table["model_args"]["d_vector_dim"] = 512
    (export / "config.json").write_text(json.dumps(table), encoding="utf-8")
    assert (
        jaxvoice.import_model(export, tmp_path / "release").info["licence"].startswith("released YourTTS: CC BY-NC-ND")
    )


def test_unknown_parts_are_errors_with_the_names_of_networks(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False))
    message = r"it should be the name of one VITS in model_file.pth: model\. .* --part waveform_decoder\.$"
    with pytest.raises(CheckpointError, match=rf"^--part is x; {message}"):
        jaxvoice.import_model(bundle, tmp_path / "model", part="x")


def test_decoders_inside_a_network_are_imported_as_vocoders_on_request(tmp_path):
    bundle = coqui_bundle(tmp_path / "bundle", coqui_state(discriminators=False, extras=False))
    file = bundle / "model_file.pth"
    with pytest.raises(CheckpointError, match="alone can be imported with --family hifigan --part waveform_decoder"):
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
