"""silero-vad's archive, whose state is a recurrent state and the end of a chunk, against torch."""

import os
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

from jaxvoice.torchscript import State, function
from jaxvoice.weights.formats import open_archive

FOLDER = os.environ.get("JAXVOICE_WHEELS")
SAMPLES = {16000: 512, 8000: 256}

pytestmark = pytest.mark.skipif(
    not list(Path(FOLDER or os.devnull).glob("silero_vad-*.whl")),
    reason="JAXVOICE_WHEELS names no folder with the wheel silero-vad (pip download --no-deps silero-vad)",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    assert FOLDER is not None
    wheel = max(Path(FOLDER).glob("silero_vad-*.whl"))
    with zipfile.ZipFile(wheel) as files:
        return Path(files.extract("silero_vad/data/silero_vad.jit", tmp_path_factory.mktemp("silero")))


@pytest.mark.parametrize("rate", SAMPLES)
def test_step_on_chunks_equals_torch(archive, rate):
    theirs = torch.jit.load(archive)
    with open_archive(archive) as opened:
        vad = function(opened)
    chunks = (0.1 * np.random.default_rng(0).standard_normal((10, 2, SAMPLES[rate]))).astype(np.float32)
    with torch.no_grad():
        expected = np.stack([theirs(torch.from_numpy(chunk), rate).numpy() for chunk in chunks])
    # The archive holds empty tensors until the first chunk.
    first, state = vad.step(vad.weights, State(), chunks[0], rate)
    assert {"_state", "_context", "_last_sr", "_last_batch_size"} == set(state)
    eager, _ = vad.step(vad.weights, state, chunks[1], rate)

    @jax.jit
    def rest(state, chunks):
        return jax.lax.scan(lambda state, chunk: vad.step(vad.weights, state, chunk, rate)[::-1], state, chunks)

    state, found = rest(state, chunks[1:])
    np.testing.assert_allclose(first, expected[0], atol=1e-6)
    np.testing.assert_allclose(eager, expected[1], atol=1e-6)
    np.testing.assert_allclose(found, expected[1:], atol=1e-6)
    np.testing.assert_allclose(state["_state"], theirs._c.getattr("_state"), atol=1e-5)


def test_changing_the_sample_rate_resets_the_state(archive):
    theirs = torch.jit.load(archive)
    with open_archive(archive) as opened:
        vad = function(opened)
    random, state = np.random.default_rng(1), State()
    for rate in (16000, 16000, 8000):
        chunk = random.standard_normal((1, SAMPLES[rate])).astype(np.float32)
        ours, state = vad.step(vad.weights, state, chunk, rate)
        with torch.no_grad():
            np.testing.assert_allclose(ours, theirs(torch.from_numpy(chunk), rate), atol=1e-6)


def test_step_runs_in_a_scan_over_a_recording(archive):
    theirs = torch.jit.load(archive)._model
    with open_archive(archive) as opened:
        speech = function(opened, "_model", "audio_forward")
    audio = (0.1 * np.random.default_rng(2).standard_normal((1, 512 * 200))).astype(np.float32)
    found = jax.jit(speech)(speech.weights, audio)
    assert "scan" in str(jax.make_jaxpr(speech)(speech.weights, audio))
    with torch.no_grad():
        np.testing.assert_allclose(found, theirs.audio_forward(torch.from_numpy(audio)), atol=1e-5)
