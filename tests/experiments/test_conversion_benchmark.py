"""Similarities of all speakers, and the error of windows, in the benchmarks of voice conversion."""

import equinox as eqx
import numpy as np
import pytest
from jax import numpy as jnp

from experiments.benchmarks import conversion
from experiments.benchmarks.conversion_windows import relative_errors
from jaxvoice.models.hifivc import content_features
from tests.models.hifivc.small import SMALL, random_network


def speaker(name: str) -> conversion.Speaker:
    return conversion.Speaker(name, (), (), seen=True)


def unit(*values: float) -> np.ndarray:
    return np.array(values, np.float32) / np.float32(np.linalg.norm(values))


@pytest.fixture
def judge() -> conversion.Judge:
    """Two recordings of ann, at an angle of 90 degrees, and one of bob."""
    made = object.__new__(conversion.Judge)
    made.known = {0: [("a0", unit(1, 0, 0)), ("a1", unit(0, 1, 0))], 1: [("b0", unit(0, 0, 1))]}
    return made


def test_matrices_contain_the_cosines_of_all_speakers(judge):
    speakers = [speaker("ann"), speaker("bob"), speaker("cid")]
    judge.known[2] = [("c0", unit(1, 0, 1))]
    rows = [{"target": "bob", "embedding": unit(0, 0, 1)}, {"target": "bob", "embedding": unit(1, 1, 0)}]
    matrices = conversion.similarity_matrices(rows, judge, speakers)
    half = np.sqrt(0.5)
    # Each recording of ann is compared with the other one; bob and cid have one recording.
    np.testing.assert_allclose(matrices["recordings"][0], [0, 0, half / 2], atol=1e-6)
    np.testing.assert_allclose(matrices["recordings"][1], [0, np.nan, half], atol=1e-6)
    # The mean of the two conversions to bob: one equals bob, the other ann.
    np.testing.assert_allclose(matrices["conversions"][1], [0.5, 0.5, (half + 0.5) / 2], atol=1e-6)
    assert np.isnan(matrices["conversions"][[0, 2]]).all()


def test_rows_of_matrices_state_the_diagonal():
    matrices = {
        "recordings": np.array([[0.9, 0.1, 0.3], [0.2, np.nan, 0.4], [0.5, 0.7, 0.6]]),
        "conversions": np.full((3, 3), np.nan),
    }
    recordings, conversions = conversion.matrix_rows(matrices)
    assert recordings["speakers"] == 2
    assert recordings["own speaker or target"] == pytest.approx(0.75)
    assert recordings["other speakers"] == pytest.approx((0.1 + 0.3 + 0.5 + 0.7) / 4)
    assert recordings["own speaker or target nearest %"] == pytest.approx(50)
    assert conversions["speakers"] == 0 and conversions["other speakers"] is None
    picture = conversion.draw_matrices(matrices, ["ann", "bob", "cid"])
    assert picture.shape[1] > picture.shape[0] and picture.dtype == np.uint8


def test_errors_of_windows():
    speech = np.random.default_rng(0).normal(0, 0.1, 60 * 640).astype(np.float32)
    encoder = random_network().content_encoder

    def errors(encoder, piece, overlap):
        whole = content_features(encoder, speech, SMALL)
        found = content_features(encoder, speech, SMALL, piece=piece, overlap=overlap)
        assert found.shape == whole.shape == (SMALL.content.dim, 60)
        return relative_errors(found, whole)

    of_frames, mean = errors(encoder, 1.2, 0.2)
    assert of_frames.max() > mean > 1e-3
    # Without attention, a frame depends on its neighbours only, so the error is at the ends of windows without overlap.
    local = eqx.tree_at(
        lambda one: [layer.self_attn.linear_out.weight for layer in one.layers], encoder, replace_fn=jnp.zeros_like
    )
    assert errors(local, 1.2, 0.2)[0].max() < 1e-4
    cut, _ = errors(local, 1.2, 0.0)
    assert cut[28:32].max() > 1e-3 and cut[:25].max() < 1e-4 and cut[35:].max() < 1e-4


def test_relative_errors():
    whole = np.array([[3.0, 4.0], [0.0, 10.0]], np.float32)
    found = whole + np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    of_frames, mean = relative_errors(found.T, whole.T)
    np.testing.assert_allclose(of_frames, [1 / 5, 1 / 10])
    np.testing.assert_allclose(mean, np.sqrt(2 / 125))
