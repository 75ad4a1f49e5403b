"""The experiment of the speaker encoder and the benchmark of similarities: flags, errors, and a run."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxvoice
from experiments import speaker_encoder as experiment, voice_conversion
from experiments.benchmarks import speaker_similarity
from jaxvoice.data import Corpus, Utterance, write_wav
from jaxvoice.errors import DataError
from jaxvoice.models.speaker_encoder import FAMILY, PRESETS, build, verify
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help
from tests.models.speaker_encoder.small import LSTM_SMALL

pytestmark = pytest.mark.usefixtures("own_cache")
RATE = 16_000
TINY = [
    *("--preset", "resemblyzer", "--log-every", "1", "--speakers", "4", "--utterances", "2", "--seconds", "0.3"),
    *("--model.network.units", "8", "--model.network.depth", "1", "--model.network.dim", "6"),
    *("--model.mel.num-mels", "16", "--optimizer.learning-rate", "1e-2"),
]


@pytest.fixture(scope="module")
def tones(tmp_path_factory) -> Path:
    """Folders of six speakers, whose recordings are tones of one frequency with noise; one has a single recording."""
    random, folder = np.random.default_rng(0), tmp_path_factory.mktemp("speakers")
    for speaker in range(6):
        (folder / f"s{speaker}").mkdir()
        for clip in range(1 if speaker == 0 else 2):
            time = np.arange(RATE + 4000 * clip) / RATE
            samples = 0.3 * np.sin(2 * np.pi * (300 + 500 * speaker) * time) + 0.05 * random.normal(size=time.size)
            write_wav(folder / f"s{speaker}" / f"{clip}.wav", samples.astype(np.float32), RATE)
    return folder


def refused(capsys, *flags: str) -> str:
    return command_lines.refused(capsys, experiment.main, *flags)


def test_defaults_depend_on_the_device(monkeypatch):
    tiny = experiment.parse([])
    assert tiny.training.model == PRESETS["tiny"] and tiny.loop.minutes == 4 and tiny.batch_size == 32
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    full = experiment.parse([])
    assert full.training.model == PRESETS["hasp"] and full.batch_size == 400
    ge2e = experiment.parse(["--preset", "resemblyzer"])
    assert ge2e.training.loss == "ge2e_softmax" and ge2e.batch_size == 640


def test_flags_reach_the_nested_configs():
    flags = "--preset tiny --speakers 5 --utterances 3 --optimizer.b2 0.5 --loss ge2e_contrast --unseen a b"
    found = experiment.parse(flags.split())
    assert (found.training.optimizer.b2, found.training.loss, found.unseen) == (0.5, "ge2e_contrast", ("a", "b"))
    assert found.batch_size == 15


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        experiment.parse(["--help"])
    text = capsys.readouterr().out
    count, bare = flags_without_help(text)
    assert count > 40 and bare == [] and "--classes" not in text and "--unseen [NAME ...]" in text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset", "large"], "--preset is 'large'; it should be one of hasp, lstm, resemblyzer, tiny"),
        (["--steps", "0"], r"error: --steps is 0; it should be positive\."),
        (["--speakers", "1"], "error: --speakers is 1; it should be at least 2"),
        (["--loss", "softmax", "--classes", "0"], "error: Unrecognized options: --classes, 0"),
        (["--speakers", "3"], "error: --speakers is 3 and --utterances is 4; .* multiple of the number of devices, 8"),
        (["--best-metric", "score"], "error: --best-metric is 'score'; it should be one of equal_error_rate"),
        (["--resume", "must"], "no run to resume"),
        (["--init-from", "nowhere"], "--init-from is nowhere; it should be a run folder with checkpoints or a model"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_invalid_values_are_one_line(tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(voice_conversion, "demo_corpus", lambda: pytest.fail("the corpus was synthesised"))
    printed = refused(capsys, "--run-dir", "run", *flags)
    assert re.fullmatch("speaker_encoder: error: .*\n", printed) and re.search(message, printed)
    assert not (tmp_path / "run").exists()


def corpus_of(kind, **counts):
    utterances = [Utterance(f"{name}/{i}", speaker=name) for name, count in counts.items() for i in range(count)]
    return Corpus(kind, Path("x"), tuple(utterances))


def test_unseen_speakers_have_several_recordings():
    assert experiment.unseen_speakers(corpus_of("folder", a=2, b=2, c=2, d=1)) == ["b", "c"]
    assert experiment.unseen_speakers(corpus_of("folder", **{f"s{i:02}": 2 for i in range(12)})) == [
        "s09",
        "s10",
        "s11",
    ]
    vctk = corpus_of("vctk", p343=2, p351=2, p225=5)
    assert experiment.unseen_speakers(vctk) == voice_conversion.VCTK_UNSEEN
    assert experiment.unseen_speakers(corpus_of("vctk", p343=2, p225=5, p226=5, p227=1)) == ["p226", "p343"]
    for counts in ({"a": 2, "b": 1, "c": 1, "d": 1}, {"a": 2, "b": 2, "c": 2}):
        with pytest.raises(DataError, match=r"with several recordings; it should have at least four"):
            experiment.unseen_speakers(corpus_of("folder", **counts))


def test_unseen_speakers_of_the_flag_are_in_the_corpus(tmp_path, tones, capsys):
    flags = ("--data", str(tones), "--run-dir", str(tmp_path / "run"), *TINY)
    printed = refused(capsys, *flags, "--unseen", "s7")
    assert "--unseen contains 's7'; the nearest known names are 's" in printed
    printed = refused(capsys, *flags, "--unseen", "s1", "s2", "s3", "s4", "s5")
    assert "One speaker is left to train on; there should be at least two. Shorten --unseen (s1, s2" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_prints_the_error_rate_and_its_model_embeds(tmp_path, tones, capsys):
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run"), *TINY, "--steps", "2"]
    assert experiment.main([*flags, "--loss", "softmax_angleproto"]) == 0
    shown = capsys.readouterr().out
    assert "4 speakers with 7 recordings for training; 4 recordings held out" in shown
    assert re.search(r"equal error rate before training: [\d.]+ % \(95 % interval", shown)
    assert re.search(r"equal error rate of the best model: [\d.]+ %", shown)
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["held_out"]["ids"] == ["s4/0", "s4/1", "s5/0", "s5/1"] and stored["config"]["classes"] == 4
    assert stored["data"]["settings"] == {"unseen": ["s4", "s5"]}
    encoder = jaxvoice.SpeakerEncoder.load(tmp_path / "run")
    assert encoder.embed(tones / "s1" / "0.wav").shape == (6,)
    assert experiment.main([*flags, "--loss", "softmax_angleproto", "--steps", "3"]) == 0
    assert "step 3 after" in capsys.readouterr().out
    printed = refused(capsys, *flags, "--unseen", "s1", "s2")
    assert "--unseen is 's1', 's2'; it should be 's4', 's5', the speakers on which the run in" in printed


def test_benchmark_reports_rates_and_similarities(tmp_path, tones, capsys):
    FAMILY.save_network(tmp_path / "model", build(LSTM_SMALL, key=jax.random.key(0)), LSTM_SMALL)
    options = speaker_similarity.Options(
        model=tmp_path / "model", data=tones, json=tmp_path / "out.json", matrix=tmp_path / "out.png", draws=20
    )
    speaker_similarity.main(options)
    encoder = jaxvoice.SpeakerEncoder.load(tmp_path / "model")
    files = sorted(tones.rglob("*.wav"))
    embeddings = encoder.embed(files)
    found = json.loads((tmp_path / "out.json").read_text())
    (row,) = found["rows"]
    rate = verify(embeddings, [file.parent.name for file in files]).equal_error_rate
    assert row["equal error rate %"] == pytest.approx(100 * rate)
    assert (row["pairs of one speaker"], row["pairs of different speakers"]) == (5, 50)
    matrix = np.array(found["similarities"], float)
    assert np.isnan(matrix[0, 0]) and matrix.shape == (6, 6)
    assert matrix[1, 1] == pytest.approx(encoder.similarity(embeddings[1], embeddings[2]), abs=1e-4)
    assert (tmp_path / "out.png").stat().st_size > 1000
    whole = replace(options, seconds=0.9, json=None, matrix=None)
    with pytest.warns(jaxvoice.errors.JaxvoiceWarning):
        speaker_similarity.main(whole)
    assert "equal error rate" in capsys.readouterr().out
