"""The experiment of the language model of XTTS: flags, errors, and runs from audio files to model folders."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import common, xtts_gpt
from jaxvoice.config import to_dict
from jaxvoice.data import write_wav
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.models.xtts import FAMILY, Tokenizer, preset
from jaxvoice.models.xtts_dvae import FAMILY as DVAE_FAMILY, CodecNetwork
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights import named_arrays
from tests.models.xtts.small import SMALL, random_xtts
from tests.models.xtts_dvae.small import SMALL as CODEC
from tests.random_networks import random_network

pytestmark = pytest.mark.usefixtures("own_cache")
RATE = SMALL.input_rate


@pytest.fixture
def tones(tmp_path):
    """Recordings of two speakers with texts; the text of one is too long for the model."""
    folder = tmp_path / "tones"
    folder.mkdir()
    time = np.arange(int(0.9 * RATE)) / RATE
    lines = ["path\tspeaker\ttext\n"]
    for i in range(7):
        write_wav(folder / f"t{i}.wav", (0.3 * np.sin(2 * np.pi * (150 + 70 * i) * time)).astype(np.float32), RATE)
        lines.append(f"t{i}.wav\t{'ab'[i % 2]}\t{'abcd ' * (9 if i == 2 else 1)}{'abc'[i % 3]}\n")
    (folder / "list.tsv").write_text("".join(lines), encoding="utf-8")
    return folder / "list.tsv"


@pytest.fixture
def dvae(tmp_path):
    DVAE_FAMILY.save_network(tmp_path / "dvae", random_network(CodecNetwork, CODEC, 1), CODEC)
    return tmp_path / "dvae"


def small(tones, run_dir, **changes):
    given = xtts_gpt.default_experiment("tiny")
    model = replace(SMALL, gpt=replace(SMALL.gpt, layers=1))
    training = replace(given.training, model=model, reference_seconds=(0.2, 0.3))
    loop = replace(given.loop, steps=2, log_every=1, minutes=None, tensorboard=False)
    options = {"data": tones, "run_dir": run_dir, "batch_size": jax.device_count(), "buckets": 1, "workers": 0}
    options |= {"validation": 1, "unseen": (), "training": training, "loop": loop}
    return replace(given, **options | changes)


@pytest.mark.parametrize(("devices", "batch_size", "parts"), [(1, 252, 84), (2, 252, 42), (4, 252, 21), (8, 264, 11)])
def test_default_parts_have_three_recordings_of_each_device(monkeypatch, devices, batch_size, parts):
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    tuned = xtts_gpt.default_experiment("v2", initial=SMALL)
    assert (tuned.batch_size, tuned.training.accumulate) == (batch_size, parts)
    new = xtts_gpt.default_experiment("v2")
    assert (new.batch_size, new.training.accumulate) == (128, 16 // devices)


def test_parts_that_do_not_divide_among_devices_raise_an_error(tones, tmp_path):
    given = small(tones, tmp_path / "run", batch_size=24)
    given = replace(given, training=replace(given.training, accumulate=2))
    with pytest.raises(ConfigError, match=r"12 recording.*number of devices, 8\. Set --accumulate to 1"):
        xtts_gpt.run(given)


def test_settings_are_those_of_the_preset_or_of_fine_tuning(tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    tiny = xtts_gpt.parse([])
    assert tiny == xtts_gpt.default_experiment("tiny") and (tiny.loop.minutes or 99) <= 10
    assert tiny.training.model == preset("tiny")
    new = xtts_gpt.parse(["--preset", "v2"])
    assert new.training.optimizer.learning_rate == 5e-5 and new.batch_size == 128
    FAMILY.save_network(tmp_path / "model", random_xtts(), SMALL)
    tuned = xtts_gpt.parse(["--init-from", str(tmp_path / "model"), "--batch-size", "12", "--accumulate", "4"])
    assert tuned.training.model == SMALL and (tuned.batch_size, tuned.training.accumulate) == (12, 4)
    assert (tuned.training.optimizer.learning_rate, tuned.training.text_weight) == (5e-6, 0.01)
    with pytest.raises(ConfigError, match="--batch-size is 10; it should be a multiple of --accumulate, 84"):
        replace(xtts_gpt.default_experiment("v2", initial=SMALL), batch_size=10)


def test_resumed_runs_keep_their_settings(tmp_path, capsys):
    given = xtts_gpt.default_experiment("v2", initial=SMALL)
    training = replace(given.training, accumulate=5)
    run = replace(given, run_dir=tmp_path / "run", batch_size=10, validation=3, vocabulary_size=99, training=training)
    data = {"settings": common.kept_settings(run), "batch_size": 10}
    table = {"config": to_dict(run.training), "loop": to_dict(run.loop), "data": data}
    RunFolder(run.run_dir).begin(table)
    (run.run_dir / "model").mkdir()
    again = xtts_gpt.parse(["--run-dir", str(run.run_dir)])
    assert replace(again.loop, minutes=None) == run.loop
    assert replace(again, preset=run.preset, loop=run.loop, workers=run.workers) == run
    assert "is not used" not in capsys.readouterr().out


def test_a_new_model_needs_a_dvae(tones, tmp_path):
    with pytest.raises(ConfigError, match=r"--dvae is not set, and a new model needs one\. Train a DVAE"):
        xtts_gpt.run(small(tones, tmp_path / "run"))


def test_corpora_without_texts_are_errors(tones, dvae, tmp_path):
    tones.write_text("".join(f"t{i}.wav\n" for i in range(7)), encoding="utf-8")
    with pytest.raises(DataError, match="The corpus has no texts"):
        xtts_gpt.run(small(tones, tmp_path / "run", dvae=dvae))


def test_the_dvae_is_a_model_or_that_of_an_xtts(tones, tmp_path):
    given = small(tones, tmp_path / "run", dvae=tmp_path / "model")
    FAMILY.save_network(tmp_path / "model", random_xtts(), SMALL)
    with pytest.raises(ConfigError, match=r"--dvae is .*'xtts'; it should be one of the family 'xtts_dvae'"):
        xtts_gpt.load_dvae(given)
    DVAE_FAMILY.save_network(tmp_path / "model" / "dvae", random_network(CodecNetwork, CODEC, 1), CODEC)
    assert xtts_gpt.load_dvae(given)[0].config == CODEC


@pytest.mark.slow
def test_new_model_is_trained_resumed_and_fine_tuned(tones, dvae, tmp_path, capsys, one_device):
    given = small(tones, tmp_path / "run", dvae=dvae)
    result = xtts_gpt.run(given)
    assert result.step == 2 and set(result.metrics) == {"code_loss", "text_loss", "code_accuracy"}
    printed = " ".join(capsys.readouterr().out.split())
    assert "rejected" in printed and "t2" in printed, printed
    folder = tmp_path / "run" / "model"
    network, config = FAMILY.load_network(folder)
    tokenizer = Tokenizer.load(folder / "vocab.json", max_text=config.gpt.max_text)
    tokenizer.check(config.gpt)
    assert tokenizer.languages == ("en",) and config.gpt.stop_audio == CODEC.dvae.codes + 1
    stored = DVAE_FAMILY.load_network(folder / "dvae")[0]
    np.testing.assert_array_equal(network.mel_stats, stored.mel_stats)
    info = json.loads((folder / "config.json").read_text())["info"]
    assert info["untrained"] == ["hifigan_decoder"]

    again = replace(given, dvae=None, loop=replace(given.loop, steps=3))
    assert xtts_gpt.run(again).step == 3
    other = random_network(CodecNetwork, CODEC, 2)
    DVAE_FAMILY.save_network(tmp_path / "other", other, CODEC)
    stored_run = replace(again, training=replace(again.training, dvae_identity="0" * 64))
    with pytest.raises(ConfigError, match="--dvae is another one"):
        xtts_gpt.run(replace(stored_run, dvae=tmp_path / "other"))

    training = replace(given.training, model=config, accumulate=2, optimizer=xtts_gpt.gpt_optimizer())
    tuned = replace(given, run_dir=tmp_path / "tuned", init_from=tmp_path / "run", dvae=None, training=training)
    assert xtts_gpt.run(tuned).step == 2
    before, _ = FAMILY.load_network(folder)
    after, _ = FAMILY.load_network(tmp_path / "tuned" / "model")
    same = {name for name, array in named_arrays(after).items() if np.array_equal(array, named_arrays(before)[name])}
    assert all(name.startswith("hifigan_decoder") or name == "mel_stats" for name in same) and len(same) > 10
    changed = np.abs(np.asarray(after.gpt.mel_head.weight - before.gpt.mel_head.weight)).max()
    assert 0 < changed < 2e-5
    assert (tmp_path / "tuned" / "model" / "vocab.json").read_bytes() == tokenizer.vocabulary
    assert "--model" in xtts_gpt.summary(xtts_gpt.run(tuned), tuned, 1.0)
