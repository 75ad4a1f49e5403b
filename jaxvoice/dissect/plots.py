"""Pictures of activations and weights, with matplotlib, or with plotly to zoom in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped

from jaxvoice.dissect.channels import Measure, grid_shape, kernel_norms, kernels, top_channels
from jaxvoice.errors import ConfigError, MissingExtraError, ShapeError

Backend = Literal["matplotlib", "plotly"]
_POINTS = 16384


@dataclass(frozen=True)
class _Panel:
    """One set of axes: lines, bars or an image."""

    title: str = ""
    lines: tuple[tuple[str, np.ndarray, np.ndarray], ...] = ()  # label, x, y
    bars: tuple[np.ndarray, np.ndarray] | None = None  # edges, counts
    image: np.ndarray | None = None
    labels: tuple[str, str] = ("", "")
    range: tuple[float | None, float | None] = (None, None)
    extent: tuple[float, float, float, float] | None = None
    colors: str = "viridis"


def plot_activation(
    activation: Shaped[np.ndarray, "*batch time channels"],
    *,
    name: str = "",
    channels: Sequence[int] | int | None = 16,
    by: Measure = "max",
    rate: float | None = None,
    backend: Backend = "matplotlib",
) -> Any:
    """Draw channels over time, one picture for each example of a batch.

    **Arguments:**

    - `activation`: `(*batch, time, channels)`. Long ones are decimated to at most 16384 positions.
    - `name`: title.
    - `channels`: indices of channels; or the number of channels to draw, those with the largest measure `by`, as for
        `top_channels`; `None` for all.
    - `rate`: positions per second, such as that of `activation_rate`; the axis is then in seconds.
    - `backend`: `"matplotlib"`, or `"plotly"`, which needs the extra `plotly`.

    **Returns:** a figure of matplotlib or plotly.

    **Raises:** `ShapeError` for fewer than two axes, no elements, or channels that do not exist; `MissingExtraError`
    without plotly.
    """
    array = np.asarray(activation, np.float32)
    if array.ndim < 2 or not array.size:
        raise ShapeError(f"The shape of the activation is {array.shape}; it should be (*batch, time, channels).")
    chosen = channels
    if chosen is None or isinstance(chosen, int | np.integer):
        chosen = top_channels(array, None if chosen is None else int(chosen), by=by).tolist()
    wrong = [i for i in chosen if not 0 <= i < array.shape[-1]]
    if wrong:
        raise ShapeError(f"The channel is {wrong[0]}; it should be in 0..{array.shape[-1] - 1}.")
    step = math.ceil(array.shape[-2] / _POINTS)
    x = np.arange(0, array.shape[-2], step) / (rate or 1)
    examples = array.reshape(-1, *array.shape[-2:])[:, ::step]
    labels = ("seconds" if rate else "position", "")
    panels = [
        _Panel(
            f"{name} {i}".strip() if len(examples) > 1 else name,
            tuple((f"channel {channel}", x, example[:, channel]) for channel in chosen),
            labels=labels,
        )
        for i, example in enumerate(examples)
    ]
    return _draw(panels, backend, height=2.5, width=9, legend=len(chosen) <= 16)


def plot_kernels(
    weight: Shaped[np.ndarray, "out in *taps"],
    *,
    count: int = 64,
    order: Literal["norm", "index"] = "norm",
    name: str = "",
    backend: Backend = "matplotlib",
) -> Any:
    """Draw the kernels of a convolution in a grid, those with the largest L2 norms, with their index as title.

    **Arguments:** `weight`: `(out, in, taps)`; `count`: number of kernels; `order`: by norm, or as they are.

    **Returns:** a figure, as `plot_activation`.

    **Raises:** `ShapeError` for fewer than three axes; `ConfigError` for a count below 1 or another order.
    """
    rows = kernels(weight)
    if order not in ("norm", "index"):
        raise ConfigError(f"order is {order!r}; it should be 'norm' or 'index'.")
    if count < 1:
        raise ConfigError(f"count is {count}; it should be at least 1.")
    chosen = np.argsort(-kernel_norms(weight), kind="stable") if order == "norm" else np.arange(len(rows))
    inputs = np.shape(weight)[1]
    taps = np.arange(rows.shape[1])
    reach = float(np.abs(rows[chosen[:count]]).max(initial=1e-12))
    panels = [
        _Panel(f"{i // inputs}, {i % inputs}", (("", taps, rows[i]),), range=(-reach, reach)) for i in chosen[:count]
    ]
    return _draw(panels, backend, title=name, height=1.0, width=1.2, ticks=False)


def plot_norms(
    weight: Shaped[np.ndarray, "out in *taps"], *, bins: int = 50, name: str = "", backend: Backend = "matplotlib"
) -> Any:
    """Draw a histogram of the L2 norms of the kernels of a convolution.

    **Returns:** a figure, as `plot_activation`.

    **Raises:** `ShapeError` for fewer than three axes; `ConfigError` for fewer than one bin, and for NaN and infinity.
    """
    norms = kernel_norms(weight)
    if bins < 1:
        raise ConfigError(f"bins is {bins}; it should be at least 1.")
    if not np.isfinite(norms).all():
        bad = int(np.count_nonzero(~np.isfinite(norms)))
        raise ConfigError(f"The norms of {bad} of {norms.size} kernels are NaN or infinite; they should be finite.")
    counts, edges = np.histogram(norms, bins=bins)
    return _draw([_Panel(name, bars=(edges, counts), labels=("L2 norm", "kernels"))], backend, height=2.5, width=9)


def plot_similarity(
    similarities: Float[np.ndarray, "channels channels"], *, name: str = "", backend: Backend = "matplotlib"
) -> Any:
    """Draw a matrix of similarities, as `similarity` computes them, from -1 to 1.

    **Returns:** a figure, as `plot_activation`. **Raises:** `ShapeError` unless the array is a matrix.
    """
    matrix = np.asarray(similarities, np.float32)
    if matrix.ndim != 2:
        raise ShapeError(f"The shape of the similarities is {matrix.shape}; it should be (channels, channels).")
    panel = _Panel(name, image=matrix, labels=("channel", "channel"), range=(-1.0, 1.0), colors="RdBu_r")
    return _draw([panel], backend, height=5, width=6)


def plot_audio(audio: Float[np.ndarray, " samples"], sample_rate: int, *, backend: Backend = "matplotlib") -> Any:
    """Draw a waveform, and below it its spectrogram in dB with 2048 points, 80 dB below the maximum to the maximum.

    **Returns:** a figure, as `plot_activation`. **Raises:** `ShapeError` unless the audio has one axis and elements.
    """
    from scipy import signal

    samples = np.asarray(audio, np.float32)
    if samples.ndim != 1 or not samples.size:
        raise ShapeError(f"The shape of the audio is {samples.shape}; it should be (samples,).")
    step = math.ceil(len(samples) / _POINTS)
    seconds = np.arange(0, len(samples), step) / sample_rate
    _, _, spectrum = signal.stft(np.pad(samples, (0, max(0, 2048 - len(samples)))), nperseg=2048, noverlap=1536)
    decibels = 20 * np.log10(np.maximum(np.abs(spectrum), 1e-30))
    decibels = np.maximum(decibels - decibels.max(), -80)
    panels = [
        _Panel(lines=(("", seconds, samples[::step]),), labels=("seconds", "")),
        _Panel(
            image=decibels,
            labels=("seconds", "kHz"),
            range=(-80.0, 0.0),
            extent=(0, len(samples) / sample_rate, 0, sample_rate / 2000),
        ),
    ]
    return _draw(panels, backend, height=2, width=9, columns=1)


def _draw(
    panels: Sequence[_Panel],
    backend: str,
    *,
    title: str = "",
    height: float,
    width: float,
    columns: int | None = None,
    ticks: bool = True,
    legend: bool = False,
) -> Any:
    rows, across = grid_shape(len(panels))
    if columns is not None:
        rows, across = len(panels), columns
    if backend == "matplotlib":
        return _matplotlib(panels, rows, across, title, (max(width * across, 3), max(height * rows, 2)), ticks, legend)
    if backend == "plotly":
        return _plotly(panels, rows, across, title, max(int(90 * height * rows), 250), ticks, legend)
    raise ConfigError(f"backend is {backend!r}; it should be 'matplotlib' or 'plotly'.")


def _matplotlib(
    panels: Sequence[_Panel],
    rows: int,
    columns: int,
    title: str,
    size: tuple[float, float],
    ticks: bool,
    legend: bool,
) -> Any:
    # A figure of its own, which is not registered with pyplot: it is freed with its last reference.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title)
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for label, x, y in panel.lines:
            axes.plot(x, y, label=label or None, linewidth=0.8)
        if panel.bars is not None:
            axes.stairs(panel.bars[1], panel.bars[0], fill=True)
        if panel.image is not None:
            low, high = panel.range
            options: dict[str, Any] = {
                "origin": "lower",
                "aspect": "auto",
                "interpolation": "nearest",
                "cmap": panel.colors,
            }
            options |= {} if panel.extent is None else {"extent": panel.extent}
            figure.colorbar(axes.imshow(panel.image, vmin=low, vmax=high, **options), ax=axes)
        elif panel.range != (None, None):
            axes.set_ylim(*panel.range)
        axes.set(title=panel.title, xlabel=panel.labels[0], ylabel=panel.labels[1])
        if not ticks:
            axes.set(xticks=[], yticks=[])
            axes.title.set_fontsize(7)
        if legend and place == len(panels):
            axes.legend(fontsize=7, ncols=2, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _plotly(
    panels: Sequence[_Panel], rows: int, columns: int, title: str, height: int, ticks: bool, legend: bool
) -> Any:
    try:
        from plotly import graph_objects  # pyright: ignore[reportMissingImports]
        from plotly.subplots import make_subplots  # pyright: ignore[reportMissingImports]
    except ImportError as failure:
        raise MissingExtraError(
            "backend='plotly' needs plotly, which is not installed. Install it with: pip install 'jaxvoice[plotly]'"
        ) from failure

    figure = make_subplots(rows, columns, subplot_titles=[panel.title for panel in panels])
    for place, panel in enumerate(panels):
        at: dict[str, Any] = {"row": place // columns + 1, "col": place % columns + 1}
        for label, x, y in panel.lines:
            figure.add_trace(graph_objects.Scatter(x=x, y=y, name=label, mode="lines", line_width=1), **at)
        if panel.bars is not None:
            edges, counts = panel.bars
            figure.add_trace(graph_objects.Bar(x=(edges[1:] + edges[:-1]) / 2, y=counts), **at)
        if panel.image is not None:
            left, right, low, high = panel.extent or (0, panel.image.shape[1], 0, panel.image.shape[0])
            places = {
                "x": np.linspace(left, right, panel.image.shape[1], endpoint=False),
                "y": np.linspace(low, high, panel.image.shape[0], endpoint=False),
                "colorscale": panel.colors,
            }
            image = graph_objects.Heatmap(z=panel.image, zmin=panel.range[0], zmax=panel.range[1], **places)
            figure.add_trace(image, **at)
        elif panel.range != (None, None):
            figure.update_yaxes(range=list(panel.range), **at)
        figure.update_xaxes(title_text=panel.labels[0], showticklabels=ticks, **at)
        figure.update_yaxes(title_text=panel.labels[1], showticklabels=ticks, **at)
    figure.update_layout(title=title or None, height=height, showlegend=legend)
    return figure
