"""A task small enough to train in a moment: two networks, each with its own optimiser, learn a noisy line together.

As a script, it runs a training session in a new process, for tests of kills, interrupts and several processes.
"""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from jaxvoice.training.loop import LoopConfig, TrainingResult, fit
from jaxvoice.training.optimizers import OptimizerConfig, adamw, ema_update
from jaxvoice.training.task import Sample, Task, ValidationResult
from jaxvoice.training.training_state import Counters, all_finite, guarded


@dataclass(frozen=True)
class ToyMel:
    num_mels: int = 8


FAST = OptimizerConfig(learning_rate=1e-2, decay_steps=5)


@dataclass(frozen=True)
class ToyConfig:
    width: int = 16
    optimizer: OptimizerConfig = FAST


class ToyState(eqx.Module):
    student: eqx.nn.MLP
    error_model: eqx.nn.Linear
    average: eqx.nn.MLP
    optimizers: tuple
    counters: Counters


@dataclass
class ToyTask(Task):
    config: ToyConfig = ToyConfig()
    mel: ToyMel = ToyMel()
    validation_seconds: float = 0.0
    samples: bool = False
    scores: tuple[float, ...] = ()  # what successive validations report instead of the truth
    held_out_clips: int = 1

    def init(self, *, key):
        first, second = jax.random.split(key)
        student = eqx.nn.MLP(4, 1, self.config.width, 1, key=first)
        error_model = eqx.nn.Linear(4, 1, key=second)
        optimizer = adamw(self.config.optimizer, steps_per_epoch=10)
        states = tuple(optimizer.init(eqx.filter(net, eqx.is_inexact_array)) for net in (student, error_model))
        return ToyState(student, error_model, student, states, Counters.zero())

    def step(self, state, batch, *, key, phase):
        optimizer = adamw(self.config.optimizer, steps_per_epoch=10)
        noise = 0.01 * jax.random.normal(key, batch["y"].shape)

        def student_loss(student):
            return jnp.mean((jax.vmap(student)(batch["x"])[:, 0] - batch["y"] - noise) ** 2)

        def error_model_loss(error_model, student):
            error = jnp.abs(jax.vmap(student)(batch["x"])[:, 0] - batch["y"])
            return jnp.mean((jax.vmap(error_model)(batch["x"])[:, 0] - error) ** 2)

        def update(net, gradient, opt_state):
            params = eqx.filter(net, eqx.is_inexact_array)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return eqx.apply_updates(net, updates), opt_state

        loss_e, grad_e = eqx.filter_value_and_grad(error_model_loss)(state.error_model, state.student)
        error_model, opt_e = update(state.error_model, grad_e, state.optimizers[1])
        loss_s, grad_s = eqx.filter_value_and_grad(student_loss)(state.student)
        student, opt_s = update(state.student, grad_s, state.optimizers[0])
        average = ema_update(state.average, student, decay=0.9)
        new = ToyState(student, error_model, average, (opt_s, opt_e), state.counters)
        finite = all_finite((loss_s, loss_e, grad_s, grad_e))
        return guarded(finite, new, state), {"student": loss_s, "error_model": loss_e}

    def audio_seconds(self, batch):
        return len(batch["y"]) * 0.5

    def validate(self, state):
        time.sleep(self.validation_seconds)
        rows = ToyLoader(32, seed=99).rows(0)
        guess = np.asarray(jax.vmap(state.average)(jnp.asarray(rows["x"]))[:, 0])
        distance = float(np.abs(guess - rows["y"]).mean())
        if self.scores:
            distance, self.scores = self.scores[0], self.scores[1:]
        mels = {"target": rows["x"].T, "generated": rows["x"].T + distance}
        audio = np.sin(np.arange(800, dtype=np.float32) / 5)
        samples = [Sample("clip", audio, 8000, mels, target=audio / 2)] if self.samples else []
        return ValidationResult({"mel_l1": distance, "double": 2 * distance}, samples)

    def held_out(self):
        return {"clips": self.held_out_clips}

    def save_model(self, state, folder):
        weight = np.asarray(state.average.layers[0].weight)
        (folder / "config.json").write_text(json.dumps({"width": self.config.width}))
        np.save(folder / "weight.npy", weight)

    def describe(self):
        return {"parameters": 4 * self.config.width}


class ToyLoader:
    """Rows of `y = x . (1, -2, 3, 0.5) + noise`, a function of (seed, place) alone."""

    def __init__(self, batch_size=16, *, seed=0, process=0, processes=1, last=None, poison=()):
        self.batch_size, self.seed, self.place = batch_size, seed, 0
        self.last, self.poison = last, poison  # the step it ends after, and steps with an infinite value
        share = batch_size // processes
        self.share = slice(process * share, (process + 1) * share)

    def rows(self, place):
        generator = np.random.default_rng([self.seed, place])
        x = generator.normal(size=(self.batch_size, 4)).astype(np.float32)
        noise = generator.normal(size=self.batch_size) * 0.1
        y = (x @ np.array([1, -2, 3, 0.5]) + noise).astype(np.float32)
        if place + 1 in self.poison:
            y[0] = np.inf
        return {"x": x[self.share], "y": y[self.share]}

    def __next__(self):
        if self.place == self.last:
            raise StopIteration
        self.place += 1
        return self.rows(self.place - 1)

    def state(self):
        return (self.place, self.seed)

    def restore(self, state):
        self.place, self.seed = state

    def describe(self):
        return {"batch_size": self.batch_size, "kind": "rows"}


def train(run: Path, *, task=None, loader=None, mesh=None, initial_state=None, **loop) -> TrainingResult:
    """One session on the toy task that logs every step."""
    defaults = {"steps": 12, "log_every": 1, "checkpoint_every": 4, "validate_every": 6, "tensorboard": False}
    config = LoopConfig(**{**defaults, **loop})
    return fit(task or ToyTask(), loader or ToyLoader(), config, run, mesh=mesh, initial_state=initial_state)


def one_device():
    """A mesh of the first device only."""
    from jaxvoice.training.parallel import data_mesh

    return data_mesh(jax.devices()[:1])


def logged(run: Path, kind: str = "train") -> dict[int, dict]:
    """The lines of `metrics.jsonl` by step, exact values; fails if a step appears twice."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == kind]
    found = {line["step"]: line for line in lines}
    assert len(found) == len(lines), "a step appears twice"
    return found


def losses(run: Path) -> dict[int, tuple[str, str]]:
    """Both losses of every logged step, as exact hexadecimal."""
    return {step: (line["student"].hex(), line["error_model"].hex()) for step, line in logged(run).items()}


def main() -> None:
    """`toy.py '{"run": ..., ...}'`: options below, the rest goes to `train`."""
    options = json.loads(sys.argv[1])
    run = Path(options.pop("run"))
    processes, process = options.pop("processes", 1), options.pop("process", 0)
    # XLA has a thread for each core or device, whichever are more, and splits sums among them: to repeat a session of
    # the process that runs the tests bit for bit on any number of cores takes as many devices as that has.
    jax.config.update("jax_num_cpu_devices", options.pop("devices", 8))
    if processes > 1:
        from jaxvoice.training.parallel import initialize_distributed

        initialize_distributed(f"127.0.0.1:{options.pop('port')}", processes, process)
    else:
        options["mesh"] = one_device()
    kill_at, kill_while_saving = options.pop("kill_at", None), options.pop("kill_while_saving", None)
    signal_at, wait = options.pop("signal_at", None), options.pop("step_seconds", 0.0)
    task = ToyTask(ToyConfig(width=options.pop("width", 16)))
    loader = ToyLoader(process=process, processes=processes)

    class Disturbed(ToyTask):
        def audio_seconds(self, batch):  # called once for every batch, before its step
            time.sleep(wait)
            if loader.place == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if signal_at is not None and loader.place == signal_at[0]:
                os.kill(os.getpid(), signal_at[1])
            return super().audio_seconds(batch)

    def watch(delay: float, skip: int) -> None:
        seen: set[str] = set()
        while True:
            for entry in (run / "checkpoints").glob("*.orbax-checkpoint-tmp*"):
                seen.add(entry.name)
                if len(seen) > skip:
                    time.sleep(delay)
                    os.kill(os.getpid(), signal.SIGKILL)

    if kill_while_saving is not None:
        threading.Thread(target=watch, args=kill_while_saving, daemon=True).start()
    Disturbed.__name__ = "ToyTask"
    again = options.pop("again", False)
    result = train(run, task=Disturbed(task.config), loader=loader, **options)
    print("RESULT", result.stopped, result.step, flush=True)
    if again:
        loader = ToyLoader(process=process, processes=processes)
        result = train(run, task=task, loader=loader, **options | {"resume": "must"})
        print("RESULT", result.stopped, result.step, flush=True)


if __name__ == "__main__":
    main()
