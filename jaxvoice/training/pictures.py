"""Pictures of mel spectrograms, alignments, durations, F0 contours, embeddings and matrices."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_PANEL = 2.4  # inches: the height of each mel spectrogram


def draw_mels(title: str, mels: Mapping[str, Float[np.ndarray, "mels frames"]]) -> UInt8[np.ndarray, "height width 3"]:
    """Draw mel spectrograms below each other on one colour scale, low bands at the bottom; RGB in 0..255.

    If there are mels named `target` and `generated`, their difference over the common frames is added. The title is
    above the mels. The title of a single mel contains its name too.
    """
    panels = dict(mels)
    low = min((float(mel.min()) for mel in panels.values()), default=0.0)
    high = max((float(mel.max()) for mel in panels.values()), default=1.0)
    if "target" in panels and "generated" in panels:
        frames = min(panels["target"].shape[1], panels["generated"].shape[1])
        panels["difference"] = panels["generated"][:, :frames] - panels["target"][:, :frames]
    count = max(len(panels), 1)
    figure = Figure(figsize=(8, _PANEL * count), dpi=90)
    if len(panels) == 1:
        panels = {": ".join(filter(None, (name, title))): mel for name, mel in panels.items()}
        _set_margins(figure)
    else:
        _set_margins(figure, above=0.75, panels=count)
        figure.suptitle(title, y=1 - 0.12 / (_PANEL * count), va="top")
    for place, (name, mel) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(len(panels), 1, place)
        if name == "difference":
            reach = max(float(np.abs(mel).max()), 1e-3)
            shown = axes.imshow(mel, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-reach, vmax=reach)
        else:
            shown = axes.imshow(mel, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high)
        axes.set(title=name, ylabel="mel band", xlabel="frame" if place == len(panels) else "")
        figure.colorbar(shown, ax=axes)
    return _pixels(figure)


def draw_alignment(
    title: str, weights: Float[np.ndarray, "frames phones"], phonemes: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw the weights of phonemes in frames, with frames on the x axis and phonemes on the y axis; RGB in 0..255."""
    figure = Figure(figsize=(9, min(12.0, 1.5 + 0.16 * len(phonemes))), dpi=90)
    _set_margins(figure)
    axes = figure.add_subplot()
    shown = axes.imshow(weights.T, origin="lower", aspect="auto", cmap="viridis", vmin=0.0, vmax=1.0)
    axes.set(title=title, xlabel="frame", ylabel="phoneme")
    every = max(1, len(phonemes) // 60)
    axes.set_yticks(range(0, len(phonemes), every), phonemes[::every], fontsize=7)
    figure.colorbar(shown, ax=axes)
    return _pixels(figure)


def draw_durations(
    title: str, durations: Mapping[str, Float[np.ndarray, " phones"]], phonemes: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw durations of the same phonemes in frames, with a bar for each name; RGB in 0..255."""
    figure = Figure(figsize=(max(6.0, 1.5 + 0.22 * len(phonemes)), 3.2), dpi=90)
    _set_margins(figure, right=0.12)
    axes = figure.add_subplot()
    places, width = np.arange(len(phonemes)), 0.8 / max(len(durations), 1)
    for number, (name, frames) in enumerate(durations.items()):
        axes.bar(places + (number - (len(durations) - 1) / 2) * width, frames, width, label=name)
    axes.set(title=title, ylabel="frames", xlim=(-0.6, len(phonemes) - 0.4))
    axes.set_xticks(places, list(phonemes), rotation=90, fontsize=7)
    axes.legend()
    return _pixels(figure)


def draw_contours(
    title: str, f0s: Mapping[str, Float[np.ndarray, " _"]], *, frames_per_second: float = 100.0
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw F0 contours in Hz over time in seconds, with gaps where F0 is 0 (unvoiced); RGB in 0..255."""
    figure = Figure(figsize=(8, 3), dpi=90)
    _set_margins(figure, right=0.12)
    axes = figure.add_subplot()
    for name, f0 in f0s.items():
        axes.plot(np.arange(len(f0)) / frames_per_second, np.where(f0 > 0, f0, np.nan), linewidth=1.2, label=name)
    axes.set(title=title, xlabel="time, s", ylabel="F0, Hz")
    axes.legend(loc="upper right")
    return _pixels(figure)


def draw_embeddings(
    title: str, embeddings: Mapping[str, Float[np.ndarray, "recordings size"]]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw embeddings of speakers in two dimensions, each with its name at its mean; RGB in 0..255.

    The dimensions are those of `two_dimensions` for all embeddings together.
    """
    figure = Figure(figsize=(7, 6), dpi=90)
    _set_margins(figure, left=0.95, right=0.15)
    axes = figure.add_subplot()
    counts = np.cumsum([len(one) for one in embeddings.values()])
    points, shares = two_dimensions(np.concatenate(list(embeddings.values())))
    for number, (name, part) in enumerate(zip(embeddings, np.split(points, counts[:-1]), strict=True)):
        axes.scatter(*part.T, s=14, color=f"C{number}")
        axes.annotate(name, part.mean(axis=0), fontsize=8, ha="center", va="bottom")
    axes.margins(0.08)
    first, second = (f"component {place}, {share:.0%} of the variance" for place, share in enumerate(shares, start=1))
    axes.set(title=title, xlabel=first, ylabel=second)
    return _pixels(figure)


def two_dimensions(
    vectors: Float[np.ndarray, "count size"],
) -> tuple[Float[np.ndarray, "count 2"], Float[np.ndarray, " 2"]]:
    """The first two principal components of `vectors`, and the shares of the variance that they contain."""
    centred = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points, shares = np.zeros((len(centred), 2)), np.zeros(2)
    kept = min(2, len(values))
    points[:, :kept] = left[:, :kept] * values[:kept]
    total = np.square(values).sum()
    shares[:kept] = np.square(values[:kept]) / total if total else 0
    return points, shares


def draw_matrix(
    title: str, values: Float[np.ndarray, "rows columns"], *, rows: Sequence[str], columns: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draw a matrix, such as the similarities of speakers, with the names of rows and columns; RGB in 0..255.

    Cells that are NaN stay white.
    """
    figure = Figure(figsize=(2.6 + 0.3 * len(columns), 1.6 + 0.3 * len(rows)), dpi=90)
    _set_margins(figure, left=1.1, right=0.3, below=0.9)
    axes = figure.add_subplot()
    shown = axes.imshow(values, aspect="auto", cmap="viridis")
    axes.set(title=title)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xticks(range(len(columns)), columns, fontsize=8, rotation=90)
    figure.colorbar(shown, ax=axes)
    return _pixels(figure)


def _set_margins(
    figure: Figure,
    *,
    above: float = 0.35,
    right: float = 0.0,
    left: float = 0.72,
    below: float = 0.5,
    panels: int = 1,
) -> None:
    """Set margins in inches. A layout engine would take longer than the drawing."""
    width, height = figure.get_size_inches()
    between = 0.6
    panel = (height - above - below - between * (panels - 1)) / panels
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        bottom=below / height,
        top=1 - above / height,
        hspace=between / panel,
    )


def _pixels(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
