"""Pictures show the data that they are given."""

import builtins

import numpy as np
import pytest

from jaxvoice import dissect
from jaxvoice.errors import ConfigError, MissingExtraError, ShapeError

RANDOM = np.random.default_rng(0)


def test_activations_are_drawn_by_example_and_channel():
    x = RANDOM.standard_normal((2, 40000, 6)).astype(np.float32)
    figure = dissect.plot_activation(x, name="net.4", channels=2, rate=100.0)
    top = dissect.top_channels(x, 2)
    assert [axes.get_title() for axes in figure.axes] == ["net.4 0", "net.4 1"]
    for example, axes in zip(x, figure.axes, strict=True):
        assert [line.get_label() for line in axes.lines] == [f"channel {i}" for i in top]
        np.testing.assert_array_equal(axes.lines[1].get_ydata(), example[::3, top[1]])
        np.testing.assert_allclose(axes.lines[0].get_xdata(), np.arange(0, 40000, 3) / 100)
        assert axes.get_xlabel() == "seconds"
    assert len(dissect.plot_activation(x[0], channels=np.int64(3)).axes[0].lines) == 3
    (axes,) = dissect.plot_activation(x[0], channels=[5, 0]).axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), x[0, ::3, 5])
    with pytest.raises(ShapeError, match=r"channel is 6; it should be in 0\.\.5"):
        dissect.plot_activation(x, channels=[6])
    with pytest.raises(ShapeError, match="time, channels"):
        dissect.plot_activation(x[0, 0])
    with pytest.raises(ConfigError, match="backend is 'bokeh'"):
        dissect.plot_activation(x, backend="bokeh")


def test_kernels_are_drawn_by_norm():
    weight = RANDOM.standard_normal((4, 3, 7)).astype(np.float32)
    figure = dissect.plot_kernels(weight, count=5, name="conv")
    order = np.argsort(-np.linalg.norm(weight, axis=-1).reshape(-1))[:5]
    assert len(figure.axes) == 5
    for i, axes in zip(order, figure.axes, strict=True):
        assert axes.get_title() == f"{i // 3}, {i % 3}"
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), weight.reshape(12, 7)[i])
    assert len(dissect.plot_kernels(weight, count=64, order="index").axes) == 12
    for make, message in (
        (lambda: dissect.plot_kernels(weight, order="size"), "order is 'size'"),
        (lambda: dissect.plot_kernels(weight, count=0), "count is 0; it should be at least 1"),
        (lambda: dissect.plot_norms(weight, bins=0), "bins is 0; it should be at least 1"),
        (lambda: dissect.plot_norms(np.where(weight == weight[0, 0, 0], np.nan, weight)), "norms of 1 of 12 kernels"),
    ):
        with pytest.raises(ConfigError, match=message):
            make()
    (axes,) = dissect.plot_norms(weight, bins=4).axes
    counts, edges = np.histogram(np.linalg.norm(weight, axis=-1), 4)
    (stairs,) = axes.patches
    np.testing.assert_array_equal(stairs.get_data().values, counts)
    np.testing.assert_allclose(stairs.get_data().edges, edges)


def test_similarities_and_audio_are_drawn():
    matrix = np.eye(5, dtype=np.float32)
    axes = dissect.plot_similarity(matrix, name="net.4").axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), matrix)
    assert axes.images[0].get_clim() == (-1, 1)
    with pytest.raises(ShapeError, match="similarities"):
        dissect.plot_similarity(matrix[0])
    audio = np.sin(2 * np.pi * 3000 * np.arange(16000) / 16000).astype(np.float32)
    wave, spectrogram = dissect.plot_audio(audio, 16000).axes[:2]
    np.testing.assert_array_equal(wave.lines[0].get_ydata(), audio)
    image = spectrogram.images[0]
    assert image.get_extent() == [0, 1, 0, 8]
    strongest = image.get_array()[:, 10].argmax() / (image.get_array().shape[0] - 1) * 8
    assert strongest == pytest.approx(3, abs=0.01) and image.get_array().max() == 0
    assert len(dissect.plot_audio(audio[:100], 16000).axes) == 3
    with pytest.raises(ShapeError, match="audio"):
        dissect.plot_audio(audio[None], 16000)


def test_plotly_figures_contain_the_data():
    pytest.importorskip("plotly")
    x = RANDOM.standard_normal((2, 30, 6)).astype(np.float32)
    figure = dissect.plot_activation(x, channels=2, backend="plotly")
    assert len(figure.data) == 4
    np.testing.assert_array_equal(figure.data[0].y, x[0, :, dissect.top_channels(x, 1)[0]])
    weight = RANDOM.standard_normal((2, 2, 3)).astype(np.float32)
    assert len(dissect.plot_kernels(weight, backend="plotly").data) == 4
    assert dissect.plot_norms(weight, backend="plotly").data[0].y.sum() == 4
    assert dissect.plot_similarity(np.eye(3), backend="plotly").data[0].z.shape == (3, 3)
    assert len(dissect.plot_audio(x[0, :, 0], 16000, backend="plotly").data) == 2


def test_missing_plotly_raises_an_error(monkeypatch):
    original = builtins.__import__

    def without_plotly(name, *args, **kwargs):
        if name.partition(".")[0] == "plotly":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_plotly)
    with pytest.raises(MissingExtraError, match=r"pip install 'jaxvoice\[plotly\]'"):
        dissect.plot_similarity(np.eye(3), backend="plotly")
