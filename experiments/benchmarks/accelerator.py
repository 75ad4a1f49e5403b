"""Speeds and two short trainings on a GPU or TPU, within a time budget; results as JSON and audio samples.

    python -m experiments.benchmarks.accelerator --out results
    python -m experiments.benchmarks.accelerator --out results --data LJSpeech-1.1 --aligned textgrids

The parts run in this order:

- the rate of a large matrix product;
- HiFi-GAN V1: inference of one and of 16 utterances of 5 s, and the training step of 16 crops, in float32 with TF32 and
  in bfloat16, with jaxvoice and, in a process of its own, with torch if it is installed and sees the GPU;
- text to speech: the training step of each phase for 32 utterances, and synthesis of a mel spectrogram of 8 s;
- the training of V1 (`experiments.hifigan_l40`) and of text to speech (`experiments.tts_ljspeech`) for the rest of
  `--minutes`, in equal shares, with validations on the way; text to speech ends with its duration model, and speaks a
  sentence with Griffin-Lim and with the vocoder that was trained before.

The trainings use `--data` (recordings) and `--aligned` (a corpus with alignments), by default the demo corpus. The
command `jaxvoice demo-corpus corpus --sentences 400 --voices 1` makes a folder for both. Every part is guarded: if one
fails, its error is recorded, and the script continues. `results.json` is written again after every part, so an
interrupted script leaves the results of the finished parts. Measurements that have not started after half the time are
skipped.

Needed besides JAX with CUDA: numpy, equinox, jaxtyping, optax, orbax-checkpoint, safetensors, ml-dtypes, matplotlib and
tqdm; soundfile (with cffi), soxr for corpora at other sample rates, tyro (with docstring-parser and typeguard), and
espeakng-loader for the demo corpus. librosa, tensorboardX, torch and network access are not needed.
"""

import json
import math
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tyro

from experiments.benchmarks import accelerator_speeds as speeds, accelerator_trainings as trainings, common
from experiments.benchmarks.accelerator_settings import PRECISIONS, TINY, Options, Sizes


def device_memory() -> dict[str, float]:
    """Memory of the first device in MiB, in use and at its peak so far; empty if the device does not report it."""
    import jax

    found = jax.local_devices()[0].memory_stats() or {}
    names = {"bytes_in_use": "in_use_mib", "peak_bytes_in_use": "peak_mib"}
    return {short: found[name] / 2**20 for name, short in names.items() if name in found}


class Report:
    """The results of all parts, in `results.json`."""

    def __init__(self, options: Options):
        import jax

        self._start, self._path, self._budget = time.monotonic(), options.out / "results.json", 60 * options.minutes
        devices = [{"kind": device.device_kind, "platform": device.platform} for device in jax.devices()]
        self.table: dict[str, Any] = {
            "machine": {**common.machine(), "devices": devices, "tiny": options.tiny},
            "options": asdict(options),
            "parts": {},
        }

    @property
    def left(self) -> float:
        """Seconds left of the time budget."""
        return self._budget - (time.monotonic() - self._start)

    def part(self, name: str, run: Callable[[], dict[str, Any]], *, needs: float = 0.0) -> None:
        """Run a part and record its results, or its error; skip it if less than `needs` seconds are left."""
        start = time.monotonic()
        if self.left < needs:
            record: dict[str, Any] = {"skipped": f"{max(self.left, 0):.0f} s were left; it needs {needs:.0f} s"}
        else:
            try:
                record = run()
            except (Exception, SystemExit) as failure:
                message = "".join(traceback.format_exception(failure))
                record = {"error": f"{type(failure).__name__}: {failure}", "traceback": message[-4000:]}
        record = {**record, "part_s": time.monotonic() - start, "device_memory": device_memory()}
        self.table["parts"][name] = record
        self._path.write_text(json.dumps(_finite(self.table), indent=2, default=str) + "\n", encoding="utf-8")
        summary = record.get("error") or record.get("skipped") or record.get("missing") or "done"
        print(f"{name}: {summary} ({record['part_s']:.1f} s)", flush=True)


def _finite(value: Any) -> Any:
    """`value` with `None` in place of floats that JSON has no notation for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all parts."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    sizes = TINY if options.tiny else Sizes()
    if options.torch_only:
        for result in speeds.torch_results(sizes):
            print(speeds.MARK + json.dumps(result), flush=True)
        return
    # torch's process needs memory of the device too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jaxvoice.training.process import enable_compilation_cache, keep_freed_memory

    if not options.tiny:
        keep_freed_memory()
        enable_compilation_cache()
    options.out.mkdir(parents=True, exist_ok=True)
    report, half = Report(options), 30 * options.minutes
    report.part("matrix product", lambda: speeds.matrix_product(sizes))
    report.part("V1 inference", lambda: speeds.vocoder_inference(sizes), needs=half)
    for precision in reversed(PRECISIONS):
        report.part(f"V1 training step, {precision}", lambda p=precision: speeds.vocoder_step(sizes, p), needs=half)
    report.part("torch", lambda: speeds.torch_process(options, report.left - 0.9 * half), needs=half)
    for precision in reversed(PRECISIONS):
        report.part(
            f"text to speech, training steps, {precision}",
            lambda p=precision: speeds.speech_steps(sizes, p),
            needs=half,
        )
    report.part("text to speech, synthesis", lambda: speeds.speech_synthesis(sizes), needs=half)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        runs, closing = Path(folder), 20 if not options.tiny else 0
        budget = lambda share: max(share * (report.left - closing), 1) / 60  # noqa: E731
        report.part("V1 training", lambda: trainings.train_vocoder(options, sizes, runs, budget(0.5)))
        report.part(
            "text to speech training", lambda: trainings.train_speech(options, sizes, runs, budget(1)), needs=closing
        )
        report.part("text to speech, sentence", lambda: trainings.speak(options, runs))
    print(f"Results are in {options.out / 'results.json'}.")


if __name__ == "__main__":
    main()
