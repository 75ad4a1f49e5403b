"""Mel spectrograms, alignments and durations as pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_mels(title: str, mels: Mapping[str, Float[np.ndarray, "mels frames"]]) -> UInt8[np.ndarray, "height width 3"]:
    """The mel spectrograms below each other, low bands at the bottom, on one colour scale; RGB in 0..255.

    Given `target` and `generated`, generated minus target is added, over the frames that both have.
    """
    panels = dict(mels)
    low = min((float(mel.min()) for mel in panels.values()), default=0.0)
    high = max((float(mel.max()) for mel in panels.values()), default=1.0)
    if "target" in panels and "generated" in panels:
        frames = min(panels["target"].shape[1], panels["generated"].shape[1])
        panels["difference"] = panels["generated"][:, :frames] - panels["target"][:, :frames]
    figure = Figure(figsize=(8, 2.4 * max(len(panels), 1)), dpi=90)
    # Fixed margins: finding them by a layout engine takes longer than the drawing.
    figure.subplots_adjust(left=0.08, right=1.0, bottom=0.07, top=0.9, hspace=0.35)
    figure.suptitle(title)
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
    """How much of each phoneme every frame is made of: frames to the right, phonemes upwards; RGB in 0..255."""
    height = min(12.0, 1.5 + 0.16 * len(phonemes))
    figure = Figure(figsize=(9, height), dpi=90)
    figure.subplots_adjust(left=0.08, right=1.0, bottom=0.5 / height, top=1 - 0.35 / height)
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
    """Durations in frames of the same phonemes, one bar beside the other for each name; RGB in 0..255."""
    figure = Figure(figsize=(max(6.0, 1.5 + 0.22 * len(phonemes)), 3.2), dpi=90)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.24, top=0.9)
    axes = figure.add_subplot()
    places, width = np.arange(len(phonemes)), 0.8 / max(len(durations), 1)
    for number, (name, frames) in enumerate(durations.items()):
        axes.bar(places + (number - (len(durations) - 1) / 2) * width, frames, width, label=name)
    axes.set(title=title, ylabel="frames", xlim=(-0.6, len(phonemes) - 0.4))
    axes.set_xticks(places, list(phonemes), rotation=90, fontsize=7)
    axes.legend()
    return _pixels(figure)


def _pixels(figure: Figure) -> UInt8[np.ndarray, "height width 3"]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
