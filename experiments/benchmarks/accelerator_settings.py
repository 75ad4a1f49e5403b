"""The settings of `experiments.benchmarks.accelerator`: its flags, and the sizes of inputs and trainings."""

from dataclasses import dataclass, field
from pathlib import Path

from experiments.benchmarks import inference, tts
from jaxvoice.training.training_state import Precision

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
MILESTONES = (13_000, 35_000)
"""Numbers of training steps for which the time is estimated."""


@dataclass(frozen=True)
class Options:
    """Settings of the benchmark."""

    out: Path
    """Folder for results.json and the audio samples."""
    data: Path | None = None
    """Recordings for the training of V1, in any layout that jaxvoice reads; by default the demo corpus."""
    aligned: Path | None = None
    """Aligned corpus for the training of text to speech; by default sentences in one voice of the demo corpus."""
    audio_dir: Path | None = None
    """Folder of the recordings of `--aligned`, if they are not beside the alignments."""
    minutes: float = 8.0
    """Time budget of the whole script, in minutes."""
    tiny: bool = False
    """Use tiny networks, short inputs and four training steps, to test the script on a CPU."""
    torch_only: bool = False
    """Print the results of torch as JSON; for internal use."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the inputs and flags of the trainings."""

    preset: inference.Preset = "v1"
    utterances: tuple[tuple[int, int], ...] = ((1, 430), (16, 430))
    """Batch and mel frames of the inference."""
    crops: int = 16
    segment: int = 8192
    speech: tts.Options = field(default_factory=lambda: tts.Options(batch=32))
    matrix: int = 8192
    repeats: int = 20
    seconds: float = 3.0
    """Longest duration of the repeats of one call."""
    vocoder_flags: tuple[str, ...] = ("--preset", "v1", "--validate-every", "250")
    speech_flags: tuple[str, ...] = ("--preset", "full", "--validate-every", "1000", "--acoustic-steps", "35000")
    duration_flags: tuple[str, ...] = ("--preset", "full", "--validate-every", "0", "--steps", "500")


_TINY_SPEECH = (
    *("--preset", "tiny", "--batch-size", "8", "--validation", "2", "--model.dim", "8"),
    *("--model.encoder.layers", "1", "--model.encoder.feed-forward", "16", "--model.decoder.layers", "1"),
    *("--model.decoder.feed-forward", "16", "--model.decoder.postnet-layers", "1", "--model.durations.hidden", "4"),
)
TINY = Sizes(
    preset="tiny",
    utterances=((1, 8),),
    crops=1,
    segment=2048,
    speech=tts.Options(size="small", phones=12, frames=50, batch=2, batch_phones=9, batch_frames=30),
    matrix=64,
    repeats=3,
    seconds=0.1,
    vocoder_flags=(
        *("--preset", "tiny", "--batch-size", "8", "--validation", "1", "--steps", "4", "--validate-every", "2"),
        *("--model.generator.upsample-initial-channel", "8", "--model.discriminators.periods", "2"),
        *("--model.discriminators.width", "0.01", "--model.segment-size", "2048"),
    ),
    speech_flags=(*_TINY_SPEECH, "--steps", "4", "--acoustic-steps", "4", "--validate-every", "2"),
    duration_flags=(*_TINY_SPEECH, "--steps", "2"),
)


def estimates(steps_per_second: float) -> dict[str, float]:
    """Steps per second, and hours up to the milestones."""
    hours = {f"hours_to_{steps}": steps / steps_per_second / 3600 for steps in MILESTONES if steps_per_second > 0}
    return {"steps_per_s": steps_per_second, **hours}
