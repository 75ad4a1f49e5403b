"""Mel spectrograms as pictures."""

from collections.abc import Mapping

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
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
