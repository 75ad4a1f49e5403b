"""Batches that `HiFiGANTask.batch` creates, and recordings for which it raises an error."""

import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import AudioError, ShapeError
from jaxvoice.models.hifigan import PRESETS
from jaxvoice.models.hifigan.training import HiFiGANTask, TrainingConfig

TASK = HiFiGANTask(TrainingConfig(PRESETS["tiny"]), steps_per_epoch=1)
RECORDINGS = np.random.default_rng(0).uniform(-1, 1, (2, 1024))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, jnp.bfloat16])
def test_batch_accepts_recordings_of_any_float_type(dtype):
    given = RECORDINGS.astype(dtype)
    batch = TASK.batch(given)
    assert batch.audio.dtype == np.int16
    np.testing.assert_allclose(batch.audio * batch.gain[:, None], given.astype(np.float64), atol=0.6 / 32767)
    # Lists become float64; halves are rounded in another direction.
    np.testing.assert_allclose(TASK.batch(given.tolist()).audio, batch.audio, atol=1)


def test_batch_maps_full_scale_to_the_largest_integer():
    recording = np.zeros(1024)
    recording[:3] = [1.0, -1.0, 1 + 1e-6]
    np.testing.assert_array_equal(TASK.batch(recording[None]).audio[0, :4], [32767, -32767, 32767, 0])


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        ([[0.1, np.nan]], AudioError, "NaN or infinity"),
        ([[0.1, -np.inf]], AudioError, "NaN or infinity"),
        (np.array([[100, -32768]], np.int16), AudioError, "int16; it .* Divide 16-bit integers by 32768"),
        ([[0.1, -1.5]], AudioError, r"largest magnitude of the recordings is 1\.5; .* Divide"),
        (RECORDINGS[0], ShapeError, r"is \(1024,\); it should be \(batch, samples\).*audio\[None\]"),
        (RECORDINGS[None], ShapeError, r"is \(1, 2, 1024\)"),
        (RECORDINGS[:, :0], ShapeError, r"is \(2, 0\)"),
        ([[0.1, 0.2], [0.3]], ShapeError, "different lengths; crop them"),
        (RECORDINGS[:, :1000], ShapeError, "is 1000 samples; it should be a multiple of the hop length, 256"),
        (RECORDINGS[:, :512], ShapeError, "is 512 samples; .* at least n_fft, 1024"),
    ],
)
def test_invalid_recordings_raise_an_error(audio, error, message):
    with pytest.raises(error, match=message):
        TASK.batch(audio)
