"""The text-to-speech experiment: flags, errors, and a run from recordings to a spoken sentence."""

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from experiments import common, text_to_speech, tts_ljspeech
from jaxvoice.config import to_dict
from jaxvoice.data import Corpus, find_aligned, load_aligned, measure_statistics, read_audio, write_wav
from jaxvoice.dsp.mel_config import WAVEGLOW_MEL, MelConfig
from jaxvoice.models import gaussian_tts
from jaxvoice.models.gaussian_tts import PRESETS, GaussianTTS, Statistics
from jaxvoice.models.hifigan import Generator, GeneratorConfig, HiFiGANConfig
from jaxvoice.models.hifigan.family import FAMILY
from jaxvoice.text.phonemes import ARPABET
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.run_folder import RunFolder
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help
from tests.models.gaussian_tts.small import save_model

pytestmark = pytest.mark.usefixtures("own_cache")
RATE, SHORTEST = 22050, 2000
TINY = [
    *("--batch-size", "8", "--validation", "2", "--best-metric", "score", "--log-every", "1"),
    *("--model.dim", "8", "--model.encoder.max-phones", "40", "--model.decoder.max-frames", "256"),
    *("--model.encoder.layers", "1", "--model.encoder.feed-forward", "16", "--model.encoder.dropout", "0.1"),
    *("--model.decoder.layers", "1", "--model.decoder.feed-forward", "16", "--model.decoder.postnet-layers", "1"),
    *("--model.durations.hidden", "4", "--acoustic-steps", "4"),
]


@pytest.fixture
def tones(tmp_path) -> Path:
    """Ten recordings of six tones each, with a table of the times of the tones."""
    random = np.random.default_rng(0)
    for number in range(10):
        phones = random.choice(["AA1", "B", "IY0", "S", "pau"], 6)
        lengths = random.integers(SHORTEST, 2 * SHORTEST, 6)
        pitches = {"AA1": 200, "B": 400, "IY0": 900, "S": 3000, "pau": 0}
        samples = [
            0.3 * np.sin(2 * np.pi * pitches[phone] * np.arange(length) / RATE)
            for phone, length in zip(phones, lengths, strict=True)
        ]
        noise = 1e-3 * random.normal(size=lengths.sum())
        folder = tmp_path / "tones"
        folder.mkdir(exist_ok=True)
        write_wav(folder / f"t{number}.wav", (np.concatenate(samples) + noise).astype(np.float32), RATE)
        times = np.concatenate([[0], np.cumsum(lengths)]) / RATE
        rows = [f"{p},{a:.6f},{b:.6f}" for p, a, b in zip(phones, times[:-1], times[1:], strict=True)]
        (folder / f"t{number}.csv").write_text("\n".join(["phone,start_s,end_s", *rows]), encoding="utf-8")
    return tmp_path / "tones"


def quickly(network: Callable[..., Any], config: Any) -> Any:
    """A `network` of `config` whose weights are all 0.5, since random initialisation takes long."""
    skeleton = eqx.filter_eval_shape(network, config, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), skeleton)


def refused(capsys, *flags: str) -> str:
    return command_lines.refused(capsys, tts_ljspeech.main, *flags)


def test_defaults_on_a_cpu_train_both_phases_in_ten_minutes():
    experiment = tts_ljspeech.parse([])
    assert experiment.training.model == PRESETS["tiny"]
    assert experiment.loop.minutes is not None and experiment.loop.minutes < 10
    assert experiment.training.acoustic_steps < experiment.loop.steps
    assert experiment.loop.best_metric == "score"


def test_defaults_on_a_gpu_are_the_full_model_and_35000_steps(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    experiment = tts_ljspeech.parse([])
    assert experiment.preset == "full"
    training, loop = experiment.training, experiment.loop
    assert (training.model.dim, training.acoustic_steps, training.precision) == (256, 35_000, "bfloat16")
    assert loop.steps > 35_000 and 13_000 % loop.validate_every == 0
    assert training.acoustic_optimizer.schedule == "noam"


@pytest.mark.parametrize("preset", ["tiny", "full"])
def test_a_preset_is_the_same_on_every_machine(preset, monkeypatch):
    experiments = []
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        experiments.append(tts_ljspeech.parse(["--preset", preset]))
    assert experiments[0] == experiments[1] == tts_ljspeech.default_experiment(preset)


def test_flags_reach_the_nested_configs():
    flags = "--model.dim 64 --model.upsampling.sigma-mode predicted --duration-optimizer.decay 0.5 --buckets 3"
    experiment = tts_ljspeech.parse(flags.split())
    model = experiment.training.model
    assert (model.dim, model.upsampling.sigma_mode, experiment.buckets) == (64, "predicted", 3)
    assert experiment.training.duration_optimizer.decay == 0.5


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        tts_ljspeech.parse(["--help"])
    count, bare = flags_without_help(capsys.readouterr().out)
    assert count > 60 and bare == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kind", "mfa"], "mfa"),
        (["--preset", "large"], "--preset is 'large'; it should be one of full, tiny"),
        (["--steps", "0"], r"error: --steps is 0; it should be positive\."),
        (["--buckets", "0"], "error: --buckets is 0; it should be at least 1"),
        (["--batch-size", "3"], "error: --batch-size is 3; it should be a multiple of the number of devices"),
        (["--acoustic-steps", "-1"], r"error: --acoustic-steps is -1; it should be at least 0\. 0 trains"),
        (["--acoustic-steps", "0"], "error: --acoustic-steps is 0; it should be positive, because .*--init-from"),
        (["--model.encoder.dropout", "2"], r"error: --model\.encoder\.dropout is 2\.0; it should be in \[0, 1\)"),
        (["--model.encoder.heads", "3"], "heads"),
        (["--resume", "must"], "no run to resume"),
        (["--init-from", "nowhere"], "nowhere"),
        (["--best-metric", "mel_l2"], "'mel_l2'; it should be one of score, mel_l1"),
        (["--text", "\u4f60\u597d"], "\u4f60"),
        (["--model.statistics.mel-mean", "7"], "come from the corpus; omit them"),
        (["--model.phone-set", "ipa"], "'ipa'; it should be one of aligned, arpabet"),
    ],
)
def test_invalid_values_are_one_line_before_reading(tmp_path, capsys, tones, flags, message, monkeypatch):
    monkeypatch.setattr(text_to_speech, "find_alignments", lambda *_, **__: pytest.fail("the corpus was looked at"))
    printed = refused(capsys, "--data", str(tones), "--run-dir", str(tmp_path / "run"), *flags)
    assert re.search("error: ", printed) and re.search(message, printed)
    assert not (tmp_path / "run").exists()


def test_missing_corpus_is_one_line(tmp_path, capsys):
    printed = refused(capsys, "--data", str(tmp_path / "nowhere"), "--run-dir", str(tmp_path / "run"))
    assert re.fullmatch("tts_ljspeech: error: .*nowhere.*\n", printed)
    assert not (tmp_path / "run").exists()


def test_vocoders_of_another_contract_raise_before_training(tmp_path, capsys, tones):
    block = {"resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
    other = HiFiGANConfig(GeneratorConfig(upsample_initial_channel=16, **block), mel=MelConfig(sample_rate=16000))
    FAMILY.save_network(tmp_path / "vocoder", quickly(Generator, other.generator), other)
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run"), "--vocoder", str(tmp_path / "vocoder")]
    printed = refused(capsys, *flags, *TINY)
    assert re.search("tts_ljspeech: error: .*sample_rate.*(16000.*22050|22050.*16000)", printed)
    assert not (tmp_path / "run").exists()


def test_flavour_and_phone_set_are_chosen_by_name(tmp_path, tones):
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run")]
    experiment = tts_ljspeech.parse([*flags, "--flavour", "waveglow", "--model.phone-set", "arpabet"])
    corpus = text_to_speech.find_alignments(experiment, ARPABET)
    assert corpus.phone_set == ARPABET
    assert tts_ljspeech.choose_contract(experiment, corpus) == WAVEGLOW_MEL
    own = replace(corpus, mel=WAVEGLOW_MEL)
    assert tts_ljspeech.choose_contract(replace(experiment, flavour="auto"), own) == WAVEGLOW_MEL
    assert tts_ljspeech.choose_contract(replace(experiment, flavour="hifigan"), own) == MelConfig()
    assert tts_ljspeech.default_experiment("full").training.model.mel == MelConfig()


def test_resumed_run_keeps_its_statistics_if_the_corpus_changes(tmp_path, tones, monkeypatch):
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run"), *TINY]
    tasks = []

    def fit(task, loader, config, folder, *, initial_state, settings):
        tasks.append(task)
        folder.mkdir(exist_ok=True)
        RunFolder(folder).begin({"config": to_dict(task.config)})
        (folder / "checkpoints" / "3").mkdir(parents=True, exist_ok=True)
        return TrainingResult("steps", 3, {}, None, folder, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(common, "fit", fit)
    tts_ljspeech.run(tts_ljspeech.parse(flags))
    (tones / "t0.wav").unlink()
    tts_ljspeech.run(tts_ljspeech.parse(flags))
    assert tasks[0].config == tasks[1].config
    (tmp_path / "run" / "checkpoints" / "3").rmdir()  # no progress: statistics are computed again
    tts_ljspeech.run(tts_ljspeech.parse(flags))
    assert tasks[2].config.model.statistics != tasks[0].config.model.statistics


def test_summary_fits_the_phase_of_the_run(tmp_path):
    experiment = tts_ljspeech.parse(["--acoustic-steps", "10", "--steps", "30"])

    def shown(stopped, step):
        result = TrainingResult(stopped, step, {}, None, tmp_path, 0.0, 0.0, 0.0, 0)
        printed = tts_ljspeech.summary(result, experiment, 60.0, None)
        assert ("not trained yet" in printed) == (step <= 10)
        return printed.split("continue            ")[1]

    left = "repeat the command, with a larger --minutes if necessary; "
    assert shown("minutes", 6) == left + "4 steps of the acoustic model and 20 steps of the duration model remain"
    assert shown("minutes", 11) == left + "19 steps of the duration model remain"
    assert shown("interrupted", 11) == "repeat the command; 19 steps of the duration model remain"
    experiment = replace(experiment, loop=replace(experiment.loop, steps=8))
    trains = "remain, and --steps above 10 trains the duration model"
    assert shown("minutes", 6) == f"{left}2 steps of the acoustic model {trains}"
    experiment = replace(experiment, loop=replace(experiment.loop, steps=30))
    assert shown("steps", 10).startswith("repeat the command with --steps above 10")
    assert shown("steps", 30).startswith(f"start another run with --init-from {tmp_path}; a larger --steps trains only")
    result = TrainingResult("steps", 30, {}, None, tmp_path, 0.0, 0.0, 0.0, 0)
    heard = replace(experiment, vocoder=tmp_path / "voice")
    shown = tts_ljspeech.summary(result, heard, 60.0, tmp_path / "spoken.wav")
    assert f"--model {tmp_path} --vocoder {tmp_path / 'voice'}" in shown


def test_init_from_uses_the_networks_of_another_run(tmp_path, tones, monkeypatch):
    begun = []

    def fit(task, loader, config, folder, *, initial_state, settings):
        begun.append(initial_state())
        folder.mkdir()
        task.save_model(begun[0], folder / "model")
        return TrainingResult("steps", 0, {}, None, folder, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(common, "fit", fit)
    flags = ["--data", str(tones), "--run-dir", str(tmp_path / "run"), *TINY]
    experiment = tts_ljspeech.parse(flags)
    config = replace(experiment.training.model, statistics=Statistics(mel_mean=-3.0))
    model = quickly(GaussianTTS, config)
    info = {"licence": "CC BY 4.0", "step": 9}
    save_model(tmp_path / "model", model, model.init_state(), config, info=info)
    tts_ljspeech.run(replace(experiment, init_from=tmp_path / "model"))
    (state,) = begun
    assert int(state.counters.step) == 0
    assert np.array_equal(state.acoustic.model.encoder.embedding, model.acoustic.encoder.embedding)
    assert state.acoustic.model.config.statistics.mel_mean != -3.0  # those of the corpus
    saved = json.loads((tmp_path / "run" / "model" / "config.json").read_text(encoding="utf-8"))["info"]
    assert saved == {"licence": "CC BY 4.0", "step": 0, "initial_model": str(tmp_path / "model")}


def test_resumed_run_has_its_stored_settings(tmp_path):
    (tmp_path / "run" / "checkpoints" / "5").mkdir(parents=True)
    given = ["--run-dir", str(tmp_path / "run")]
    began = tts_ljspeech.parse(
        [*given, *TINY, "--flavour", "waveglow", "--no-peak-normalize", "--acoustic-steps", "77"]
    )
    mel = tts_ljspeech.choose_contract(began, Corpus("filelist", tmp_path, ()))
    model = replace(
        began.training.model, mel=mel, peak_normalize=False, statistics=Statistics(mel_mean=-3.0), codes=("pau", "AA")
    )
    table = {"config": to_dict(replace(began.training, model=model)), "loop": to_dict(replace(began.loop, steps=123))}
    RunFolder(tmp_path / "run").begin({**table, "data": {"batch_size": 24}, "family": "gaussian_tts"})
    resumed = tts_ljspeech.parse(given)
    own = replace(model, statistics=Statistics(), codes=began.training.model.codes)  # the others are measured again
    assert resumed.training == replace(began.training, model=own)
    assert tts_ljspeech.choose_contract(resumed, Corpus("filelist", tmp_path, ())) == WAVEGLOW_MEL
    assert (resumed.flavour, resumed.peak_normalize, resumed.batch_size) == ("waveglow", False, 24)
    assert (resumed.loop.steps, resumed.training.acoustic_steps) == (123, 77)
    assert tts_ljspeech.parse([*given, "--acoustic-steps", "88"]).training.acoustic_steps == 88


def trained(tones: Path, run: Path, steps: int) -> dict[str, np.ndarray]:
    """The weights of the model after `steps`."""
    flags = ["--data", str(tones), "--run-dir", str(run), "--steps", str(steps), "--text", "Be a bee.", *TINY]
    assert tts_ljspeech.main(flags) == 0
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_is_trained_speaks_and_is_resumed(tmp_path, tones, capsys):
    whole = trained(tones, tmp_path / "whole", 6)
    shown = capsys.readouterr().out
    assert "usable" in shown and "step 6 after" in shown and "jaxvoice speak" in shown

    # A run stopped in the first phase resumes with the same batches, dropout and weights.
    trained(tones, tmp_path / "parts", 3)
    parts = trained(tones, tmp_path / "parts", 6)
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)

    for run in (tmp_path / "whole", tmp_path / "parts"):
        spoken = read_audio(run / "spoken.wav")
        assert spoken.sample_rate == RATE and np.isfinite(spoken.samples).all() and spoken.samples.any()
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    names = set().union(*rows)
    assert {"first", "second", "duration", "score", "mel_l1", "mcd", "variance_ratio", "duration_median"} <= names
    for name in ("t8", "train-t0"):
        assert any((tmp_path / "whole" / "samples").rglob(f"{name}.alignment.png"))

    _, config = gaussian_tts.FAMILY.load_network(tmp_path / "whole" / "model")
    store = load_aligned(find_aligned(tones), config.mel, peak_normalize=True)
    found = measure_statistics(store)
    assert config.statistics.duration_mean == pytest.approx(found.duration_mean, abs=0.1)  # those of the training part
    assert config.statistics.mel_mean == pytest.approx(found.mel_mean, abs=0.5)
    assert config.statistics.duration_scale != 1.0


def test_paths_in_printed_commands_are_quoted():
    result = TrainingResult("steps", 3, {}, None, Path("my runs/a"), 0.0, 0.0, 0.0, 0)
    rows = dict(text_to_speech.spoken_rows(result, Path("spoken.wav"), Path("it's")))
    assert shlex.split(rows["next"])[-4:] == ["--model", "my runs/a", "--vocoder", "it's"]
