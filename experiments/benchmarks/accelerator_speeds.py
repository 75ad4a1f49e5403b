"""The speeds that `experiments.benchmarks.accelerator` measures: inference and training steps, also with torch."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from experiments.benchmarks import flops, inference, timing, train_step, tts
from experiments.benchmarks.accelerator_settings import PRECISIONS, Options, Sizes, estimates
from jaxvoice.models.hifigan.config import PRESETS
from jaxvoice.training.training_state import Precision

MARK = "RESULT "
"""The start of the lines with results in the output of torch's process."""


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
    results = [json.loads(line.removeprefix(MARK)) for line in text.splitlines() if line.startswith(MARK)]
    record = dict(results)
    return record if code == 0 else {**record, "error": f"torch ended with exit code {code}", "log": text[-2000:]}


def _torch_sees_cuda() -> bool:
    check = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", check], capture_output=True, check=False).returncode == 0
