"""The trainings of `experiments.benchmarks.accelerator`, and a sentence that their models speak."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import timing
from experiments.benchmarks.accelerator_settings import Options, Sizes, estimates

TEXT = "The quick brown fox jumps over the lazy dog, and a wizard's job is to vex chumps."


def curve(run: Path) -> list[dict[str, Any]]:
    """The validations of a run, from its `metrics.jsonl`."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "kind"} for line in lines if line["kind"] == "validation"]


def training_record(result: Any, run: Path) -> dict[str, Any]:
    """The results of a training."""
    names = ("stopped", "step", "metrics", "best", "compile_seconds", "seconds")
    return {
        **{name: getattr(result, name) for name in names},
        "skipped_updates": result.skipped,
        **estimates(result.steps_per_second),
        "validations": curve(run),
    }


def train_vocoder(options: Options, sizes: Sizes, runs: Path, minutes: float) -> dict[str, Any]:
    """Train V1 as `experiments.hifigan_l40` does, and keep the samples of its last validation."""
    from experiments import hifigan_l40

    run, started = runs / "vocoder", time.monotonic()
    flags = ["--run-dir", str(run), "--minutes", f"{minutes:.3f}", *_TRAINING_FLAGS, *sizes.vocoder_flags]
    flags += [] if options.data is None else ["--data", str(options.data)]
    result = hifigan_l40.run(hifigan_l40.parse(flags), started)
    samples = keep_samples(run, options.out, "vocoder")
    return {"flags": flags, **training_record(result, run), "samples": samples}


def train_speech(options: Options, sizes: Sizes, runs: Path, minutes: float) -> dict[str, Any]:
    """Train text to speech as `experiments.tts_ljspeech` does: the acoustic model, then the duration model."""
    from experiments import tts_ljspeech

    acoustic, complete = runs / "acoustic", runs / "speech"
    shared = [*_TRAINING_FLAGS] + ([] if options.aligned is None else ["--data", str(options.aligned)])
    shared += [] if options.audio_dir is None else ["--audio-dir", str(options.audio_dir)]
    flags = ["--run-dir", str(acoustic), "--minutes", f"{0.75 * minutes:.3f}", *shared, *sizes.speech_flags]
    result = tts_ljspeech.run(tts_ljspeech.parse(flags), time.monotonic())
    record = {"flags": flags, **training_record(result, acoustic)}
    # The duration model has its own run: the acoustic model has to stop before its last step.
    flags = ["--run-dir", str(complete), "--minutes", f"{0.25 * minutes:.3f}", *shared, *sizes.duration_flags]
    flags += ["--init-from", str(acoustic), "--acoustic-steps", "0"]
    result = tts_ljspeech.run(tts_ljspeech.parse(flags), time.monotonic())
    record["duration_model"] = {"flags": flags, **training_record(result, complete)}
    return {**record, "samples": keep_samples(complete, options.out, "speech")}


_TRAINING_FLAGS = ("--no-tensorboard", "--checkpoint-every", "1000000", "--resume", "never")


def keep_samples(run: Path, out: Path, name: str, most: int = 2) -> list[str]:
    """Copy recordings from the last validation of a run; returns the names of the files."""
    kept = []
    steps = sorted((run / "samples").iterdir())
    for number, path in enumerate(sorted(steps[-1].glob("*.wav"))[:most] if steps else []):
        kept.append(f"{name}_{number + 1}.wav")
        shutil.copyfile(path, out / kept[-1])
    return kept


def speak(options: Options, runs: Path) -> dict[str, Any]:
    """A sentence that is in no corpus, with Griffin-Lim and with the trained vocoder; speeds of the second call."""
    from jaxvoice.data import write_wav
    from jaxvoice.pipelines import Synthesizer

    results = {}
    for name, vocoder in (("griffin_lim", None), ("vocoder", runs / "vocoder")):
        synthesizer = Synthesizer.load(runs / "speech", vocoder)
        speech = synthesizer.speak(TEXT)
        seconds = timing.timed(lambda synthesizer=synthesizer: synthesizer.speak(TEXT))
        audio = np.asarray(speech.audio)
        write_wav(options.out / f"spoken_{name}.wav", audio, speech.sample_rate)
        length = len(audio) / speech.sample_rate
        results[name] = {"audio_s": length, "seconds": seconds, "x_real_time": length / seconds}
    return results
