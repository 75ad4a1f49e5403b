"""What experiments share: their time budget, their run folder, what they print."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from jaxvoice.console import print_text
from jaxvoice.errors import CheckpointError
from jaxvoice.training.loop import LoopConfig


@dataclass(frozen=True)
class Loop(LoopConfig):
    """How long to train, and how often to look, save and log, with the time counted from the start of the command."""

    minutes: float | None = None
    """Wall time in minutes from the start of the command, preflight and decoding included; None sets no limit."""


def check_writable(folder: Path) -> None:
    """Raise `CheckpointError` unless `folder` is there to write in, or can be made; makes nothing."""
    whole = folder.absolute()
    place = next((path for path in (whole, *whole.parents) if os.path.lexists(path)), whole)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "may not be written in" if place.is_dir() else "is no folder"
        raise CheckpointError(f"The run folder {folder} cannot be written: {place} {why}; choose another --run-dir.")


def tell(text: str) -> None:
    """Print `text`, from one process of several."""
    if jax.process_index() == 0:
        print_text(text)


def remaining(loop: Loop, spent: float) -> Loop:
    """`loop` with `spent` seconds taken from its minutes; at least a second is left, enough for one step."""
    return loop if loop.minutes is None else replace(loop, minutes=max(loop.minutes - spent / 60, 1 / 60))
