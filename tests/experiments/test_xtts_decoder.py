"""The experiment that trains the decoder of XTTS: its settings, the speaker encoder, and a small run."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from experiments import xtts_decoder as experiment, xtts_source, xtts_speaker_encoder
from jaxvoice.data import Corpus, Store, Utterance
from jaxvoice.errors import CheckpointError, ConfigError, TextError
from jaxvoice.models import speaker_encoder as speaker_encoders
from jaxvoice.models.speaker_encoder import LSTMConfig, SpeakerEncoderConfig
from jaxvoice.models.xtts import FAMILY, Tokenizer, train_vocabulary
from jaxvoice.models.xtts.gpt_training import UNTRAINED
from jaxvoice.models.xtts_dvae import FAMILY as DVAE_FAMILY, CodecNetwork
from tests.experiments import command_lines
from tests.models.speaker_encoder.small import random_encoder
from tests.models.xtts.small import SMALL, random_xtts
from tests.models.xtts_dvae.small import SMALL as CODEC
from tests.random_networks import random_network

TEXTS = ("one by one", "two by two", "three", "four or five", "one or two", "five")
VOCABULARY = train_vocabulary(TEXTS, "en", 40)
ENCODER = replace(SMALL.speaker_encoder, network=replace(SMALL.speaker_encoder.network, dim=16), level=-27.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model folder of a small XTTS with its DVAE, whose speaker encoder was not trained."""
    folder, tokenizer = tmp_path_factory.mktemp("source"), Tokenizer(VOCABULARY)
    gpt = replace(
        SMALL.gpt,
        text_ids=tokenizer.vocabulary_size,
        start_text=tokenizer.start_id,
        stop_text=tokenizer.stop_id,
        max_text=40,
    )
    config = replace(SMALL, gpt=gpt, languages=("en",))
    FAMILY.save_network(folder, random_xtts(config), config, info={UNTRAINED: ["hifigan_decoder"]})
    (folder / "vocab.json").write_text(VOCABULARY)
    DVAE_FAMILY.save_network(folder / "dvae", random_network(CodecNetwork, CODEC), CODEC)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    speaker_encoders.FAMILY.save_network(folder, random_encoder(ENCODER), ENCODER)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Recordings of two speakers with texts, one of which the vocabulary cannot write."""
    folder, generator = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    lines = ["path\tspeaker\ttext"]
    for number, text in enumerate([*TEXTS, "☃"]):
        audio = 0.02 * generator.standard_normal(15_000 + 500 * number)
        audio[:: 80 + 10 * (number % 2)] += 0.5
        soundfile.write(folder / f"{number}.wav", audio, 22050)
        lines.append(f"{number}.wav\t{'ab'[number % 2]}\t{text}")
    (folder / "list.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.tsv"


def test_defaults_depend_on_the_preset_and_the_model(source, monkeypatch):
    tiny = experiment.parse([])
    assert tiny.preset == "tiny" and tiny.training.decoder.upsample_initial_channel == 256
    assert tiny.training.decoder.hop_length == 256 and not tiny.training.decoder.conv_pre_weight_norm
    assert experiment.parse(["--preset", "full"]).training.generator_optimizer.learning_rate == 1e-4
    given = experiment.parse(["--preset", "full", "--model", str(source)])  # its decoder was not trained
    assert given.training.decoder == SMALL.decoder and given.training.generator_optimizer.learning_rate == 2e-4
    new = experiment.parse(["--preset", "full", "--new-decoder"])
    assert new.new_decoder and new.training.generator_optimizer.learning_rate == 2e-4
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert experiment.parse([]).preset == "full"


def test_every_flag_has_a_description(capsys):
    with pytest.raises(SystemExit):
        experiment.parse(["--help"])
    shown = capsys.readouterr().out
    count, bare = command_lines.flags_without_help(shown)
    # tyro shows the parts of nested tuples without the description of the whole.
    assert count > 40 and not [flag for flag in bare if "dilation-sizes" not in flag]
    hidden = ("--latents-identity", "--init-from", "--decoder.in-channels", "--decoder.cond-channels")
    assert not [flag for flag in hidden if flag in shown]
    assert "--decoder.upsample-initial-channel" in shown


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "--model is not set"),
        (("--preset", "v2"), "--preset is 'v2'"),
        (("--max-seconds", "0"), "--max-seconds is 0"),
        (("--best-metric", "loss"), "--best-metric is 'loss'"),
        (("--latents-batch", "0"), "--latents-batch is 0"),
    ],
)
def test_wrong_flags_are_errors(capsys, tmp_path, flags, text):
    assert text in command_lines.refused(capsys, experiment.main, "--run-dir", str(tmp_path / "run"), *flags)
    assert not (tmp_path / "run").exists()


def test_models_of_other_families_are_errors(source, tmp_path):
    with pytest.raises(ConfigError, match=r"--model is .*'xtts_dvae'; it should be one of the family 'xtts'"):
        experiment.parse(["--model", str(source / "dvae")])
    with pytest.raises(CheckpointError, match=r"^--model: "):
        experiment.parse(["--model", str(tmp_path / "none")])


def test_models_without_dvae_or_vocabulary_are_errors(source, tmp_path):
    for missing in ("dvae", "vocab.json"):
        folder = tmp_path / missing
        folder.mkdir()
        for path in source.iterdir():
            if path.name != missing:
                (folder / path.name).symlink_to(path)
        with pytest.raises(CheckpointError, match=f"has no {missing}"):
            xtts_source.load_source(folder)


def test_the_speaker_encoder_is_that_of_the_model_or_of_the_flag(source, encoder, tmp_path, monkeypatch):
    found = xtts_source.load_source(source)
    given, new = xtts_speaker_encoder.with_encoder(found, experiment.Experiment(encoder=encoder), 0.0)
    assert new and given.config.decoder.cond_channels == 16 and given.config.speaker_encoder.level is None
    weights = given.network.hifigan_decoder.speaker_encoder.fc.weight
    np.testing.assert_array_equal(weights, random_encoder(ENCODER).fc.weight)
    # Without the flag, an encoder that was not trained is replaced by a small one.
    calls = []
    monkeypatch.setattr(xtts_speaker_encoder, "train_small_encoder", lambda *args: calls.append(args) or encoder)
    small, new = xtts_speaker_encoder.with_encoder(found, experiment.Experiment(), 3.0)
    assert new and small.config == given.config and calls[0][1] == 3.0
    trained = replace(found, trained=True)
    kept, new = xtts_speaker_encoder.with_encoder(trained, experiment.Experiment(), 0.0)
    assert kept is trained and not new and len(calls) == 1
    lstm = SpeakerEncoderConfig(LSTMConfig(hidden=4, layers=1, dim=12))
    speaker_encoders.FAMILY.save_network(tmp_path / "lstm", random_encoder(lstm), lstm)
    with pytest.raises(ConfigError, match=r"which XTTS cannot use: .*residual network"):
        xtts_speaker_encoder.with_encoder(found, experiment.Experiment(encoder=tmp_path / "lstm"), 0.0)


def test_recordings_are_trained_on_or_held_out():
    utterances = tuple(Utterance(f"u{i}", speaker="ab"[i % 2]) for i in range(10))
    audio = [np.zeros(4, np.int16)] * len(utterances)
    store = Store(Corpus("folder", Path("corpus"), utterances), {"audio": audio}, 24000)
    trained, held_out = ([one.id for one in part.corpus.utterances] for part in experiment.held_out_rows(store, 1))
    assert len(held_out) == 2 and sorted([*trained, *held_out]) == [one.id for one in utterances]


def test_texts_that_the_vocabulary_cannot_write_are_errors_or_replaced():
    tokenizer, utterance = Tokenizer(VOCABULARY), Utterance("a", Path("a.wav"), "two by two", language="en")
    found = experiment.test_sentence(experiment.Experiment(text="one or five"), tokenizer, [utterance])
    assert found == experiment.Sentence("one or five", "en", Path("a.wav"))
    other = replace(utterance, id="b", text="Zoo", audio=Path("b.wav"))
    found = experiment.test_sentence(experiment.Experiment(), tokenizer, [other, utterance])
    assert found == experiment.Sentence("two by two", "en", Path("a.wav"))
    with pytest.raises(TextError, match="None of the texts of 1 utterance"):
        experiment.test_sentence(experiment.Experiment(), tokenizer, [other])
    with pytest.raises(TextError, match="cannot be read by this model"):
        experiment.test_sentence(experiment.Experiment(text="Zoo"), tokenizer, [utterance])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The reference is 0.79 s long")
def test_a_small_run_ends_with_a_complete_model(source, encoder, corpus, tmp_path, capsys, own_cache):
    given = experiment.default_experiment("tiny")
    few = {"upsample_initial_channel": 16, "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
    decoder = replace(given.training.decoder, **few)
    run = replace(
        given,
        training=replace(given.training, decoder=decoder, segment_frames=32, speaker_steps=1),
        loop=replace(given.loop, steps=3, log_every=1, minutes=None, tensorboard=False),
        data=corpus,
        model=source,
        encoder=encoder,
        unseen=(),
        run_dir=tmp_path / "run",
        batch_size=jax.device_count(),
        workers=0,
        validation=1,
        reference_seconds=0.5,
    )
    sentences = []
    result = experiment.run(run, sentences=sentences)
    shown = capsys.readouterr().out
    assert result.step == 3 and np.isfinite(list(result.metrics.values())).all()
    assert "text: 1" in shown and "training a new decoder" in shown and "held out       2 utterances" in shown
    network, config = FAMILY.load_network(result.folder / "model")
    assert config.decoder == replace(decoder, in_channels=16, cond_channels=16)
    np.testing.assert_array_equal(network.gpt.mel_head.weight, FAMILY.load_network(source)[0].gpt.mel_head.weight)
    assert (result.folder / "model" / "vocab.json").read_text() == VOCABULARY
    assert DVAE_FAMILY.load_network(result.folder / "model" / "dvae")[1] == CODEC
    # The vocabulary cannot write the usual sentence.
    assert sentences == [experiment.Sentence("five", "en", corpus.with_name("5.wav"))]
    spoken = experiment.speak(result, sentences[0])
    assert spoken is not None and soundfile.info(spoken).samplerate == 24000 and soundfile.info(spoken).frames > 0
    summary = experiment.summary(result, run, 1.0, sentences[0], spoken)
    assert "speaker_distance" in summary and f"{spoken}, in the voice of" in summary
    # The run continues with the stored vectors and settings; another run starts with its decoder.
    more = replace(run, loop=replace(run.loop, steps=4))
    assert experiment.run(more).step == 4
    kept = experiment.parse(["--run-dir", str(run.run_dir)])
    assert kept.model == source and kept.encoder == encoder and kept.training.decoder == config.decoder
    again = replace(more, model=run.run_dir, encoder=None, run_dir=tmp_path / "again")
    info = json.loads((run.run_dir / "model" / "config.json").read_text())["info"]
    assert info["step"] == 4 and UNTRAINED not in info
    experiment.run(replace(again, training=replace(again.training, decoder=config.decoder)))
    assert "starting with the decoder of the model" in capsys.readouterr().out
