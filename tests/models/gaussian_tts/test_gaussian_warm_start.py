"""Networks adapted to the statistics of another corpus predict the same mels and durations."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from jaxvoice.errors import CheckpointError
from jaxvoice.models.gaussian_tts import GaussianTTS, GaussianTTSConfig, Statistics, denormalise_durations
from jaxvoice.models.gaussian_tts.statistics import denormalise_mel, round_durations
from jaxvoice.models.gaussian_tts.warm_start import pretrained
from tests.models.gaussian_tts.small import SMALL, Padded, changed, networks, padded, save_model

OLD = Statistics(mel_mean=-5.5, mel_std=2.1, mel_max=20.0, duration_mean=2.0, duration_std=0.46)
NEW = Statistics(mel_mean=-4.0, mel_std=3.2, mel_max=20.0, duration_mean=1.5, duration_std=0.3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("model"), networks()
    config = dataclasses.replace(SMALL, statistics=OLD)
    save_model(folder, model, model.init_state(), config)
    return folder


@eqx.filter_jit
def run(model: GaussianTTS, norms, batch: Padded) -> tuple[jax.Array, jax.Array, jax.Array]:
    hidden, _ = model.acoustic.encode(batch.phonemes, norms, phone_count=batch.phone_count, inference=True)
    counts = {"phone_count": batch.phone_count, "frame_count": batch.frame_count, "frames": 40}
    made = model.acoustic.decode(hidden, batch.durations, norms, **counts, inference=True)
    return made.decoder_mel, made.mel, model.durations(hidden, phone_count=batch.phone_count, inference=True)


def said(model: GaussianTTS, norms, config: GaussianTTSConfig, batch: Padded) -> tuple[np.ndarray, np.ndarray]:
    """Both mels of the first example, and the durations of all."""
    first, second, durations = run(model, norms, batch)
    frames = int(batch.frame_count[0])
    mels = [denormalise_mel(np.asarray(mel[0, :frames]), config.statistics, config.mel) for mel in (first, second)]
    frames = round_durations(denormalise_durations(np.asarray(durations), config.statistics))
    return np.stack(mels), np.where(np.arange(frames.shape[1]) < np.asarray(batch.phone_count)[:, None], frames, 0)


def test_rescaled_model_predicts_the_same_mels_and_durations(folder):
    batch, before, after = padded(), *(dataclasses.replace(SMALL, statistics=s) for s in (OLD, NEW))
    mels, durations = said(*pretrained(folder, before), before, batch)
    model, norms = pretrained(folder, after)
    assert model.config == after
    again, durations_again = said(model, norms, after, batch)
    np.testing.assert_allclose(again, mels, atol=2e-5)
    np.testing.assert_array_equal(durations_again, durations)
    assert np.isfinite(mels).all() and durations.max() > 1
    # Without rescaling, the predictions under the new statistics differ.
    assert np.abs(said(*pretrained(folder, before), after, batch)[0] - mels).max() > 0.1


def test_rescaled_model_has_the_new_configuration(folder):
    config = dataclasses.replace(SMALL, statistics=NEW)
    model, _ = pretrained(folder, config)
    assert jax.tree.structure(model) == jax.tree.structure(
        eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0))
    )


def test_different_networks_or_phonemes_raise_an_error(folder):
    wider = changed(encoder={"feed_forward": 64})
    with pytest.raises(CheckpointError, match=r"--model\.encoder\.feed_forward: 32 != 64"):
        pretrained(folder, wider)
    with pytest.raises(CheckpointError, match=r"--model\.codes"):
        pretrained(folder, dataclasses.replace(SMALL, codes=SMALL.codes[::-1]))
    pretrained(folder, dataclasses.replace(SMALL, peak_normalize=False))
