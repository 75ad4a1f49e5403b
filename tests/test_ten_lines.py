"""The examples of the training guide, of at most ten lines each, run with small networks."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxvoice.errors import ShapeError
from jaxvoice.models import gaussian_tts, hifigan
from jaxvoice.text.phonemes import ALIGNED

PAGE = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
EXAMPLES = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    if "task.step" in block
]
SMALL_HIFIGAN = hifigan.HiFiGANConfig(
    hifigan.GeneratorConfig(upsample_initial_channel=16, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),)),
    hifigan.DiscriminatorConfig(periods=(2,), scales=1, width=0.02),
)
SMALL_GAUSSIAN_TTS = gaussian_tts.GaussianTTSConfig(
    ALIGNED.codes,
    dim=8,
    encoder=gaussian_tts.EncoderConfig(layers=1, feed_forward=16),
    decoder=gaussian_tts.DecoderConfig(layers=1, feed_forward=16, postnet_layers=1),
    durations=gaussian_tts.DurationConfig(layers=1, hidden=4),
)
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("family", "full", "small", "inputs"),
    [
        (
            "hifigan",
            'hifigan.preset("v1")',
            SMALL_HIFIGAN,
            {"recordings": RANDOM.uniform(-0.5, 0.5, (2, 8192)), "mel": RANDOM.normal(-5, 1, (80, 30))},
        ),
        (
            "gaussian_tts",
            "gaussian_tts.TrainingConfig()",
            gaussian_tts.TrainingConfig(SMALL_GAUSSIAN_TTS),
            {"mel": RANDOM.normal(-5, 1, (80, 40))},
        ),
    ],
)
def test_example_trains_saves_and_uses_a_model(family, full, small, inputs, tmp_path, monkeypatch):
    (example,) = [block for block in EXAMPLES if f"import {family}" in block]
    assert len([line for line in example.splitlines() if line.strip()]) <= 10 and full in example
    monkeypatch.chdir(tmp_path)
    found = {"small": small, **inputs}
    exec(example.replace(full, "small"), found)
    assert int(found["state"].counters.step) == 1 and int(found["state"].counters.skipped) == 0
    audio = np.asarray(found["audio"] if family == "hifigan" else found["speech"].audio)
    assert np.isfinite(audio).all() and audio.any()


def test_batches_of_text_to_speech_are_padded_and_checked():
    task = gaussian_tts.GaussianTTSTask(gaussian_tts.TrainingConfig(SMALL_GAUSSIAN_TTS), steps_per_epoch=1)
    mels = [RANDOM.normal(-5, 2, (80, frames)).astype(np.float32) for frames in (5, 3)]
    batch = task.batch(["B AA1", ["pau"]], [[2, 3], [3]], mels)
    ids = ALIGNED.ids(["B", "AA1", "pau"])
    np.testing.assert_array_equal(batch.phonemes, [ids[:2], [ids[2], 0]])
    np.testing.assert_array_equal(batch.durations, [[2, 3], [3, 0]])
    np.testing.assert_array_equal(batch.mel[1], np.pad(mels[1], ((0, 0), (0, 2))))
    assert list(batch.phone_count) == [2, 1] and list(batch.frame_count) == [5, 3]
    with pytest.raises(ShapeError, match=r"Utterance 1 .* sum of the durations is 4 frames; it should be 5"):
        task.batch(["B AA1", "pau"], [[2, 2], [3]], mels)
