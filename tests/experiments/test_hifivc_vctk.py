"""The HiFi-VC experiment: flags, splits of speakers, errors, and a run from recordings to a converted voice."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxvoice
from experiments import common, hifivc_vctk, phoneme_recogniser, voice_conversion
from experiments.common import Loop
from jaxvoice.config import to_dict
from jaxvoice.data import Corpus, Utterance, write_wav
from jaxvoice.dsp import PitchConfig
from jaxvoice.errors import CheckpointError, ConfigError, DataError
from jaxvoice.models import conformer, hifivc
from jaxvoice.models.conformer import Conformer, with_state
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.hifivc.training import LossWeights, TrainingConfig
from jaxvoice.pipelines import ContentEncoder
from jaxvoice.training.loop import TrainingResult
from jaxvoice.training.optimizers import OptimizerConfig
from jaxvoice.training.run_folder import RunFolder
from tests.experiments import command_lines
from tests.experiments.command_lines import flags_without_help
from tests.models.hifivc.small import SMALL

pytestmark = pytest.mark.usefixtures("own_cache")
RATE = 24_000
MODEL = replace(
    SMALL,
    pitch=PitchConfig(tracker="autocorrelation"),
    discriminators=DiscriminatorConfig(periods=(2,), scales=1, width=1 / 16),
)
TRAINING = TrainingConfig(
    MODEL,
    OptimizerConfig(learning_rate=1e-3),
    OptimizerConfig(learning_rate=1e-3),
    LossWeights(kl_warmup_steps=4),
    segment_frames=4,
    reference_frames=24,
    reconstruction_steps=2,
)


@pytest.fixture
def voices(tmp_path) -> Path:
    """Tones of three speakers, one of them with a single recording, and of a speaker of VCTK that is held out."""
    folder = tmp_path / "voices"
    for speaker, (f0, count) in {"p1": (110, 3), "p2": (150, 3), "p3": (190, 1), "p343": (230, 2)}.items():
        (folder / speaker).mkdir(parents=True)
        for number in range(count):
            phase = 2 * np.pi * np.cumsum(f0 * (1 + 0.05 * np.sin(np.arange(14_400) / (2000 + 300 * number)))) / RATE
            samples = 0.2 * sum(np.sin(k * phase) / k for k in range(1, 6))
            write_wav(folder / speaker / f"{speaker}_{number:03}.wav", samples.astype(np.float32), RATE)
    return folder


@pytest.fixture
def encoder(tmp_path) -> Path:
    return save_encoder(tmp_path / "encoder", 0)


def save_encoder(folder: Path, seed: int) -> Path:
    network = Conformer(MODEL.content, key=jax.random.key(seed))
    conformer.FAMILY.save_network(folder, with_state(network, network.init_state()), MODEL.content)
    return folder


def experiment(voices: Path, encoder: Path, run: Path, **changes) -> hifivc_vctk.Experiment:
    loop = Loop(steps=3, validate_every=0, log_every=1, tensorboard=False)
    given = hifivc_vctk.Experiment(
        data=voices, content_encoder=encoder, run_dir=run, batch_size=8, workers=0, training=TRAINING, loop=loop
    )
    return replace(given, **changes)


def refused(capsys, *flags: str) -> str:
    return command_lines.refused(capsys, hifivc_vctk.main, *flags)


def test_defaults_depend_on_the_device(monkeypatch):
    tiny = hifivc_vctk.parse([])
    assert tiny == hifivc_vctk.default_experiment("tiny") and tiny.training.model == hifivc.PRESETS["tiny"]
    assert tiny.loop.minutes is not None and tiny.loop.minutes < 15
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    full = hifivc_vctk.parse([])
    assert (full.preset, full.training.precision) == ("full", "bfloat16")


def test_flags_reach_the_nested_configs():
    flags = "--preset tiny --unseen a b --reference same --loss-weights.kl 0.5 --steps 9"
    flags += " --model.decoder.conditioning none --model.pitch.tracker autocorrelation --generator-optimizer.b1 0.5"
    given = hifivc_vctk.parse(flags.split())
    training = given.training
    assert (training.unseen, given.loop.steps, training.reference) == (("a", "b"), 9, "same")
    assert (training.loss_weights.kl, training.model.decoder.conditioning) == (0.5, "none")
    assert (training.model.pitch.tracker, training.generator_optimizer.b1) == ("autocorrelation", 0.5)


def test_every_flag_has_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        hifivc_vctk.parse(["--help"])
    count, bare = flags_without_help(capsys.readouterr().out)
    # The numbered flags of a tuple share one help text.
    assert count > 80 and [f for f in bare if not re.match(r"--model\.decoder\.resblock-dilation-sizes\.\d", f)] == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "voices"], r"--content-encoder is not set; .* Import a \.nemo file"),
        (["--preset", "v1"], "--preset is 'v1'; it should be one of full, tiny"),
        (["--steps", "0"], r"error: --steps is 0; it should be positive\."),
        (["--workers", "-1"], "error: --workers is -1; it should be at least 0"),
        (["--batch-size", "3"], "error: --batch-size is 3; it should be a multiple of the number of devices"),
        (["--best-metric", "score"], "error: --best-metric is 'score'; it should be one of mel_l1"),
        (["--reference-frames", "2"], "error: --reference-frames is 2; it should be at least"),
        (["--loss-weights.kl", "-1"], r"error: --loss-weights\.kl is -1\.0; it should"),
        (["--reference-pieces", "45", "30"], "error: --reference-pieces is .45, 30.; it should contain a shortest"),
        (["--resume", "must"], "no run to resume"),
        (["--data", "voices/p1", "--content-encoder", "encoder"], r"3 recording\(s\), .* have no speaker"),
        (
            ["--data", "voices", "--content-encoder", "encoder", "--model.content.layers", "2"],
            "--model.content is chan",
        ),
        (["--model.content.layers", "2"], "--model.content is changed, but the content encoder is not trained here"),
        (["--init-from", "encoder"], "--init-from is encoder, but --content-encoder is not set, and a new content enc"),
        (["--init-from", "nowhere"], "--init-from is nowhere; it should be a run folder with checkpoints or a model"),
        (["--data", "nowhere", "--content-encoder", "encoder"], "nowhere"),
        (["--data", "voices", "--content-encoder", "nowhere"], "nowhere"),
        (["--data", "voices", "--content-encoder", "encoder", "--unseen", "p1", "p2", "p3", "p343"], "has no speaker"),
    ],
)
def test_invalid_values_are_one_line(tmp_path, capsys, monkeypatch, voices, encoder, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(voice_conversion, "demo_corpus", lambda: pytest.fail("the corpus was synthesised"))
    small = ["--preset", "tiny", "--segment-frames", "4", "--loss-weights.stft", "0", "--batch-size", "8"]
    printed = refused(capsys, "--run-dir", "run", *(small if "--preset" not in flags else []), *flags)
    assert re.fullmatch("hifivc_vctk: error: .*\n", printed) and re.search(message, printed)
    assert not (tmp_path / "run").exists()


def corpus(**counts: int) -> Corpus:
    items = [Utterance(f"{name}-{i}", speaker=name) for name, count in counts.items() for i in range(count)]
    return Corpus("vctk", Path("corpus"), tuple(items))


def ids(part: Corpus) -> list[str]:
    return [utterance.id for utterance in part.utterances]


def test_last_utterances_of_each_speaker_are_held_out():
    train, held_out = voice_conversion.hold_out(corpus(a=3, b=1, c=50), None)
    assert ids(held_out) == ["a-2", "c-46", "c-47", "c-48", "c-49"] and len(train) == 49
    train, held_out = voice_conversion.hold_out(corpus(a=3, b=1), 2)
    assert ids(train) == ["a-0", "b-0"] and ids(held_out) == ["a-1", "a-2"]
    train, held_out = voice_conversion.hold_out(corpus(a=3, b=1), 0)
    assert len(train) == 4 and not len(held_out)
    without = replace(corpus(a=40), utterances=tuple(replace(one, speaker="") for one in corpus(a=40).utterances))
    assert ids(voice_conversion.hold_out(without, None)[1]) == ["a-38", "a-39"]


def test_unseen_speakers_are_separated():
    seen, unseen = voice_conversion.without_speakers(corpus(a=2, b=1, c=1), ("b", "missing"))
    assert ids(seen) == ["a-0", "a-1", "c-0"] and ids(unseen) == ["b-0"]
    with pytest.raises(DataError, match="has no speaker but a, b; add recordings"):
        voice_conversion.without_speakers(corpus(a=1, b=1), ("b", "a"))


def voices_of(part: Corpus) -> list[str]:
    return sorted({utterance.speaker for utterance in part.utterances})


@pytest.mark.parametrize("preset", ["tiny", "full"])
def test_unseen_speakers_are_those_of_the_corpus(monkeypatch, preset):
    given = hifivc_vctk.default_experiment(preset)
    demo, vctk = corpus(annie=1, max=1, denis=1), corpus(p225=1, p343=1, p376=1, s5=1)
    monkeypatch.setattr(voice_conversion, "demo_corpus", lambda: demo)
    seen, unseen, _ = hifivc_vctk.find_speakers(given)
    assert (voices_of(seen), voices_of(unseen)) == (["denis"], ["annie", "max"])
    monkeypatch.setattr(hifivc_vctk, "find_corpus", lambda data, kind: vctk)
    monkeypatch.setattr(hifivc_vctk, "preflight", lambda found, *args, **options: SimpleNamespace(
        corpus=found, table=lambda: ""))  # fmt: skip
    given = replace(given, data=Path("VCTK"), content_encoder=Path("encoder"))
    seen, unseen, names = hifivc_vctk.find_speakers(given)
    # s5 is in neither list of NVC-Net.
    assert (voices_of(seen), voices_of(unseen)) == (["p225", "p376"], ["p343"])
    resumed = replace(given, training=replace(given.training, unseen=names))
    assert hifivc_vctk.find_speakers(resumed) == (seen, unseen, names)
    chosen = replace(given, training=replace(given.training, unseen=("p225",)))
    assert voices_of(hifivc_vctk.find_speakers(chosen)[0]) == ["p343", "p376", "s5"]
    more = replace(given, training=replace(given.training, unseen=("p225", *reversed(names))))
    assert voices_of(hifivc_vctk.find_speakers(more)[0]) == ["p376"]
    named = replace(given, training=replace(given.training, unseen=(*names, "s5")))
    assert voices_of(hifivc_vctk.find_speakers(named)[1]) == ["p343", "s5"]


def test_speakers_are_checked_before_files_are_decoded(monkeypatch):
    without = Corpus("folder", Path("corpus"), (Utterance("a"),))
    monkeypatch.setattr(hifivc_vctk, "find_corpus", lambda data, kind: without)
    monkeypatch.setattr(hifivc_vctk, "preflight", lambda *args, **options: pytest.fail("the files were decoded"))
    given = replace(hifivc_vctk.default_experiment("tiny"), data=Path("corpus"), content_encoder=Path("encoder"))
    with pytest.raises(DataError, match=r"1 recording\(s\), for example 'a', have no speaker"):
        hifivc_vctk.find_speakers(given)


def fake_fit(monkeypatch) -> list:
    """Replace the training by the initial state; returns the list of the tasks, loaders and states."""
    begun = []

    def fit(task, loader, loop, folder, *, initial_state, settings):
        begun.append((task, loader, initial_state))
        folder.mkdir(exist_ok=True)
        RunFolder(folder).begin({"config": to_dict(task.config), "family": task.family})
        return TrainingResult("steps", 0, {}, None, folder, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(common, "fit", fit)
    return begun


@pytest.mark.usefixtures("one_device")
def test_speakers_are_divided_and_those_with_one_utterance_are_printed(tmp_path, voices, encoder, monkeypatch, capsys):
    begun = fake_fit(monkeypatch)
    (voices / "p3" / "p3_001.wav").write_bytes(b"RIFF")
    write_wav(voices / "p3" / "p3_002.wav", np.zeros(RATE, np.float32), RATE)
    write_wav(voices / "p3" / "p3_003.wav", (0.1 * np.sin(np.arange(RATE // 4))).astype(np.float32), RATE)
    model = replace(MODEL, speaker=replace(MODEL.speaker, widths=(2,) * 6))  # reads at least 34 mel frames
    training = replace(TRAINING, model=model, reference_frames=40)
    hifivc_vctk.run(experiment(voices, encoder, tmp_path / "run", training=training))
    shown = capsys.readouterr().out
    assert "note: 1 of 3 speakers (p3) have one utterance for training" in shown
    short = "1 recordings shorter than 0.34 s are not used: p3/p3_003"
    for part in ("rejected      2", "p3_001", "silent", short):
        assert part in shown, shown
    ((task, loader, initial_state),) = begun
    assert initial_state is None
    held_out = task.held_out()
    assert held_out["ids"] == ["p1/p1_002", "p2/p2_002"] and held_out["unseen"]["ids"] == ["p343/p343_001"]
    references = loader.describe()["references"]
    assert references["without_other_utterance"] == 1


@pytest.mark.usefixtures("one_device")
def test_resumed_run_needs_its_content_encoder(tmp_path, voices, encoder, monkeypatch):
    begun = fake_fit(monkeypatch)
    first = experiment(voices, encoder, tmp_path / "run")
    hifivc_vctk.run(first)
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    resumed = hifivc_vctk.parse(["--run-dir", str(tmp_path / "run"), "--data", str(voices), "--content-encoder", "x"])
    assert resumed.training.content_identity == ContentEncoder.load(encoder).identity
    assert resumed.training.unseen == voice_conversion.VCTK_UNSEEN
    other = save_encoder(tmp_path / "other", 1)
    with pytest.raises(ConfigError, match=r"--content-encoder is .*other, the model .*; it should be"):
        hifivc_vctk.run(replace(first, training=resumed.training, content_encoder=other))
    hifivc_vctk.run(replace(first, training=resumed.training))
    assert len(begun) == 2 and begun[0][0].config == begun[1][0].config


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_init_from_uses_the_networks_of_another_run(tmp_path, voices, encoder, monkeypatch):
    begun = fake_fit(monkeypatch)
    given = experiment(voices, encoder, tmp_path / "run")
    hifivc_vctk.run(given)
    task = begun[0][0]
    state = task.init(key=jax.random.key(5))
    task.save_model(state, tmp_path / "trained")
    fine_tuned = replace(given, run_dir=tmp_path / "second", init_from=tmp_path / "trained")
    hifivc_vctk.run(fine_tuned)
    new = begun[1][2]()
    assert eqx.tree_equal(new.networks.model, state.networks.model) and int(new.counters.step) == 0
    other = save_encoder(tmp_path / "other", 1)
    with pytest.raises(CheckpointError, match="whose content encoder is not that of --content-encoder"):
        hifivc_vctk.run(replace(fine_tuned, run_dir=tmp_path / "third", content_encoder=other))
    decoder = replace(MODEL.decoder, pre_channels=8)
    training = replace(TRAINING, model=replace(MODEL, decoder=decoder))
    with pytest.raises(CheckpointError, match=r"another network .*--model\.decoder\.pre_channels: 12 != 8"):
        hifivc_vctk.run(replace(fine_tuned, run_dir=tmp_path / "third", training=training))


@pytest.mark.parametrize(("minutes", "expected"), [(9.0, 3.0), (None, 5.0)])
def test_content_encoder_is_trained_beside_the_run(tmp_path, voices, encoder, monkeypatch, minutes, expected):
    trained = []

    def train(given, started, found):
        trained.append((given, found))
        save_encoder(given.run_dir / "model", 0)
        (given.run_dir / "config.json").write_text("{}")
        stop = "interrupted" if len(trained) == 1 else "minutes"
        line = {"step": len(trained), "kind": "train" if stop == "interrupted" else "validation"}
        (given.run_dir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        return TrainingResult(stop, len(trained), {}, None, given.run_dir, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(phoneme_recogniser, "run", train)
    given = replace(experiment(voices, encoder, tmp_path / "run"), content_encoder=Path("x"))
    given = replace(given, data=None, content_encoder=None, loop=replace(given.loop, minutes=minutes))
    with pytest.raises(KeyboardInterrupt):
        hifivc_vctk.content_encoder(given, corpus(a=1), 0.0)
    for _ in range(2):  # the interrupted training is resumed, and the finished one is not repeated
        found = hifivc_vctk.content_encoder(given, corpus(a=1), 0.0)
        assert found.config == MODEL.content
    assert len(trained) == 2
    for recogniser, of in trained:
        assert recogniser.run_dir == tmp_path / "run_content_encoder" and ids(of) == ["a-0"]
        assert recogniser.loop.minutes == pytest.approx(expected) and recogniser.data is None


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_content_is_computed_in_the_step(tmp_path, voices, encoder, monkeypatch):
    found = []

    def fit(task, loader, loop, folder, *, initial_state, settings):
        found.append((next(loader), task.validate(task.init(key=jax.random.key(0)))))
        return TrainingResult("steps", 0, {}, None, folder, 0.0, 0.0, 0.0, 0)

    monkeypatch.setattr(common, "fit", fit)
    training = replace(TRAINING, content="computed")
    hifivc_vctk.run(experiment(voices, encoder, tmp_path / "run", training=training))
    ((batch, result),) = found
    assert "content" not in batch.columns and batch.columns["speech"].shape == (8, 640, 4)
    assert set(result.metrics) == {"mel_l1", "mel_l1_unseen"}


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_run_is_trained_and_converts(tmp_path, voices, encoder):
    result = hifivc_vctk.run(experiment(voices, encoder, tmp_path / "run"))
    assert result.step == 3 and {"mel_l1", "mel_l1_unseen"} <= set(result.metrics)
    shown = hifivc_vctk.summary(result, experiment(voices, encoder, tmp_path / "run"), 60.0)
    assert "step 3 after 1.0 minutes" in shown and f"--model {tmp_path / 'run'}" in shown
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert "disc_period" not in trained[0] and "disc_period" in trained[-1] and "kl" in trained[0]
    converter = jaxvoice.load(tmp_path / "run")
    found = converter.convert(voices / "p1" / "p1_000.wav", voices / "p343" / "p343_000.wav")
    assert found.shape == (14_400,) and np.isfinite(found).all()
    info = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["info"]
    assert info["content_encoder"] == ContentEncoder.load(encoder).identity and info["step"] == 3
