"""Pictures of mel spectrograms, alignments and durations."""

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


def _set_margins(figure: Figure, *, above: float = 0.35, right: float = 0.0, panels: int = 1) -> None:
    """Set margins in inches. A layout engine would take longer than the drawing."""
    width, height = figure.get_size_inches()
    below, between = 0.5, 0.6
    panel = (height - above - below - between * (panels - 1)) / panels
    figure.subplots_adjust(
        left=0.72 / width,
        right=1 - right / width,
        bottom=below / height,
        top=1 - above / height,
        hspace=between / panel,
    )


def _pixels(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
