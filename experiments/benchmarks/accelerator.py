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
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.benchmarks import common, flops, inference, timing, train_step, tts
from jaxvoice.models.hifigan.config import PRESETS
from jaxvoice.training.training_state import Precision

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
MILESTONES = (13_000, 35_000)
"""Numbers of training steps for which the time is estimated."""
TEXT = "The quick brown fox jumps over the lazy dog, and a wizard's job is to vex chumps."
_MARK = "RESULT "


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


def measured(call: Callable[[], object], sizes: Sizes, gflop: float | None = None) -> dict[str, Any]:
    """Minimum, median and rate of a call, after two calls that are not timed."""
    for _ in range(2):
        call()
    seconds, start = [], time.perf_counter()
    while len(seconds) < 3 or (len(seconds) < sizes.repeats and time.perf_counter() - start < sizes.seconds):
        seconds.append(timing.timed(call))
    found = timing.Timing(tuple(seconds))
    row: dict[str, Any] = {"min_s": found.minimum, "median_s": found.median, "repeats": len(seconds)}
    return row if gflop is None else {**row, "gflop": gflop, "gflop_per_s": gflop / found.minimum}


@contextmanager
def tf32() -> Iterator[None]:
    """A context in which JAX computes float32 products with TF32, on devices that support it."""
    import jax

    with jax.default_matmul_precision("tensorfloat32"):
        yield


def device_memory() -> dict[str, float]:
    """Memory of the first device in MiB, in use and at its peak so far; empty if the device does not report it."""
    import jax

    found = jax.local_devices()[0].memory_stats() or {}
    names = {"bytes_in_use": "in_use_mib", "peak_bytes_in_use": "peak_mib"}
    return {short: found[name] / 2**20 for name, short in names.items() if name in found}


def matrix_product(sizes: Sizes) -> dict[str, Any]:
    """The rate of a product of square matrices in each precision."""
    import jax
    import jax.numpy as jnp

    results = {}
    for precision in PRECISIONS:
        left, right = jax.random.normal(jax.random.key(0), (2, sizes.matrix, sizes.matrix), jnp.dtype(precision))
        product = jax.jit(jnp.matmul)
        with tf32():
            call = lambda a=left, b=right, f=product: jax.block_until_ready(f(a, b))  # noqa: E731
            results[precision] = measured(call, sizes, timing.matrix_gflop(sizes.matrix))
    return {"size": sizes.matrix, **results}


def vocoder_inference(sizes: Sizes) -> dict[str, Any]:
    """Inference of the generator."""
    results = {}
    for batch, frames in sizes.utterances:
        gflop = batch * flops.generator_gflop(PRESETS[sizes.preset].generator, frames)
        for precision in PRECISIONS:
            with tf32():
                call = inference.jaxvoice_call(
                    sizes.preset, inference.noise_mel(batch, frames), None, precision=precision
                )
                row = measured(call, sizes, gflop)
            row["x_real_time"] = batch * frames * inference.HOP / inference.SAMPLE_RATE / row["min_s"]
            results[f"{batch} x {frames} frames, {precision}"] = row
    return results


def vocoder_step(sizes: Sizes, precision: Precision) -> dict[str, Any]:
    """The training step of generator and discriminators."""
    options = step_options(sizes, precision)
    with tf32():
        step, compiling = train_step.jaxvoice_step(options, None)
        row = measured(step, sizes, step_gflop(sizes))
    return {"compile_s": compiling, **row, **estimates(1 / row["min_s"])}


def step_options(sizes: Sizes, precision: Precision) -> train_step.Options:
    """The settings of the training step."""
    return train_step.Options(preset=sizes.preset, batch=sizes.crops, segment=sizes.segment, precision=precision)


def step_gflop(sizes: Sizes) -> float:
    """The operations of the training step."""
    return flops.train_step_gflop(PRESETS[sizes.preset], sizes.crops, sizes.segment)


def speech_steps(sizes: Sizes, precision: Precision) -> dict[str, Any]:
    """The training steps of the acoustic model and of the duration model."""
    works: tuple[tts.Work, ...] = ("acoustic step", "duration step")
    results = {}
    for phase, work in enumerate(works):
        networks, norms = tts.initial_networks(tts.CONFIGS[sizes.speech.size])
        with tf32():
            call = tts.jaxvoice_step(networks, norms, tts.batch_of(sizes.speech, work), phase, precision=precision)
            row = measured(call, sizes, tts.work_gflop(work, sizes.speech))
        results[work] = {**row, **estimates(1 / row["min_s"])}
    return results


def speech_synthesis(sizes: Sizes) -> dict[str, Any]:
    """Mel spectrograms from phonemes, as in `Synthesizer`, without a vocoder."""
    with tf32():
        call = tts.build("jaxvoice AcousticInference", "mel", sizes.speech)
        row = measured(call, sizes, tts.work_gflop("mel", sizes.speech))
    seconds = sizes.speech.frames * inference.HOP / inference.SAMPLE_RATE
    return {"audio_s": seconds, **row, "x_real_time": seconds / row["min_s"]}


def estimates(steps_per_second: float) -> dict[str, float]:
    """Steps per second, and hours up to the milestones."""
    hours = {f"hours_to_{steps}": steps / steps_per_second / 3600 for steps in MILESTONES if steps_per_second > 0}
    return {"steps_per_s": steps_per_second, **hours}


def torch_results(sizes: Sizes) -> Iterator[tuple[str, Any]]:
    """Names and results of inference and training step of torch, on the GPU if there is one."""
    import torch

    from experiments.benchmarks.torch_hifigan import fold_weight_norm

    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    if cuda:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield "version", torch.__version__
    yield "device", torch.cuda.get_device_name() if cuda else "cpu"

    def finished(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            call()
            if cuda:
                torch.cuda.synchronize()

        return run

    generator = fold_weight_norm(inference.torch_generator(sizes.preset)).to(device)
    for batch, frames in sizes.utterances:
        mel = torch.from_numpy(inference.noise_mel(batch, frames)).to(device)
        gflop = batch * flops.generator_gflop(PRESETS[sizes.preset].generator, frames)
        for precision in PRECISIONS:
            lower = precision == "bfloat16"
            with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=lower):
                row = measured(finished(lambda mel=mel: generator(mel)), sizes, gflop)
            row["x_real_time"] = batch * frames * inference.HOP / inference.SAMPLE_RATE / row["min_s"]
            yield f"inference, {batch} x {frames} frames, {precision}", row
    for precision in PRECISIONS:
        for name, skip_unused in (("release's order", False), ("without unused gradients", True)):
            step = train_step.torch_step(step_options(sizes, precision), skip_unused=skip_unused)
            row = measured(finished(step), sizes, step_gflop(sizes))
            yield f"training step, {precision}, {name}", {**row, **estimates(1 / row["min_s"])}
    if cuda:
        yield "peak_mib", torch.cuda.max_memory_allocated() / 2**20


def torch_process(options: Options, seconds: float) -> dict[str, Any]:
    """`torch_results` of another process, which is stopped after `seconds`; the results until then are returned.

    In one process, JAX and torch would share the memory and the libraries of the GPU.
    """
    import jax

    if find_spec("torch") is None:
        return {"missing": "torch is not installed"}
    if jax.default_backend() != "cpu" and not _torch_sees_cuda():
        return {"missing": "torch does not see a GPU"}
    command = [sys.executable, "-m", "experiments.benchmarks.accelerator", "--out", str(options.out), "--torch-only"]
    command += ["--tiny"] if options.tiny else []
    log = options.out / "torch.log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(max(seconds, 1))
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    text = log.read_text(encoding="utf-8")
    log.unlink()
    results = [json.loads(line.removeprefix(_MARK)) for line in text.splitlines() if line.startswith(_MARK)]
    record = dict(results)
    return record if code == 0 else {**record, "error": f"torch ended with exit code {code}", "log": text[-2000:]}


def _torch_sees_cuda() -> bool:
    check = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", check], capture_output=True, check=False).returncode == 0


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
        for result in torch_results(sizes):
            print(_MARK + json.dumps(result), flush=True)
        return
    # torch's process needs memory of the device too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from jaxvoice.training.process import enable_compilation_cache, keep_freed_memory

    if not options.tiny:
        keep_freed_memory()
        enable_compilation_cache()
    options.out.mkdir(parents=True, exist_ok=True)
    report, half = Report(options), 30 * options.minutes
    report.part("matrix product", lambda: matrix_product(sizes))
    report.part("V1 inference", lambda: vocoder_inference(sizes), needs=half)
    for precision in reversed(PRECISIONS):
        report.part(f"V1 training step, {precision}", lambda p=precision: vocoder_step(sizes, p), needs=half)
    report.part("torch", lambda: torch_process(options, report.left - 0.9 * half), needs=half)
    for precision in reversed(PRECISIONS):
        report.part(
            f"text to speech, training steps, {precision}", lambda p=precision: speech_steps(sizes, p), needs=half
        )
    report.part("text to speech, synthesis", lambda: speech_synthesis(sizes), needs=half)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        runs, closing = Path(folder), 20 if not options.tiny else 0
        budget = lambda share: max(share * (report.left - closing), 1) / 60  # noqa: E731
        report.part("V1 training", lambda: train_vocoder(options, sizes, runs, budget(0.5)))
        report.part("text to speech training", lambda: train_speech(options, sizes, runs, budget(1)), needs=closing)
        report.part("text to speech, sentence", lambda: speak(options, runs))
    print(f"Results are in {options.out / 'results.json'}.")


if __name__ == "__main__":
    main()
