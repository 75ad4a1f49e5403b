"""The training of the phoneme-to-mel network in torch: losses, and a step of each of the two phases.

The two phases of `jaxvoice.models.gaussian_tts.training`, of which `tests/reference` checks that they compute the same:
Adam after clipping the gradient's norm, the schedule of arXiv 1706.03762, and a moving average of the acoustic model.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.torch_gaussian_tts import GaussianTTS, Padding
from jaxvoice.models.gaussian_tts.config import Statistics


class Batch(NamedTuple):
    """A padded batch, as `jaxvoice.data.UtteranceBatch`."""

    phonemes: Int[Tensor, "batch phones"]
    phone_count: Int[Tensor, " batch"]
    durations: Float[Tensor, "batch phones"]
    mel: Float[Tensor, "batch mels frames"]
    frame_count: Int[Tensor, " batch"]


def mel_loss(
    predicted: Float[Tensor, "batch frames mels"], target: Float[Tensor, "batch frames mels"], frames: Padding
) -> Float[Tensor, ""]:
    """Mean over valid frames and mel bands of |p - t| + (p - t)^2."""
    distance = frames.clear(predicted - target)
    return (distance.abs() + distance**2).sum() / (frames.places.numel() * target.shape[2])


class Trainer:
    """The networks with their optimisers, and a step of each phase.

    **Arguments:** `statistics`, what is normalised by; a learning rate for each phase: that of the acoustic model is
    the peak of the schedule, reached after `warmup_steps`, that of the duration model falls by 3 % every `decay_steps`;
    `ema_decay` of the moving average.
    """

    def __init__(
        self,
        networks: GaussianTTS,
        *,
        statistics: Statistics,
        learning_rates: tuple[float, float] = (9.882117688026186e-4, 1e-3),
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
        clip_norm: float = 1.0,
        warmup_steps: int = 4000,
        decay_steps: int = 53,
        ema_decay: float = 0.999,
    ):
        self.acoustic, self.durations = networks.acoustic, networks.durations
        self.statistics = statistics
        self.clip_norm, self.ema_decay = clip_norm, ema_decay
        parts = (self.acoustic, self.durations)
        self.optimizers = [
            torch.optim.Adam(part.parameters(), rate, betas, eps)
            for part, rate in zip(parts, learning_rates, strict=True)
        ]

        def noam(step: int) -> float:
            return min((warmup_steps / (step + 1)) ** 0.5, (step + 1) / warmup_steps)

        self.schedules = [
            torch.optim.lr_scheduler.LambdaLR(self.optimizers[0], noam),
            torch.optim.lr_scheduler.StepLR(self.optimizers[1], decay_steps, 0.97),
        ]
        self.average = {name: tensor.clone() for name, tensor in self._averaged().items()}
        """The moving average: weights and running statistics of the acoustic model, by name."""
        self.steps = 0

    def acoustic_step(self, batch: Batch) -> dict[str, float]:
        """Update the acoustic model and its moving average; the losses of both mel spectrograms."""
        self.acoustic.train()
        phones = Padding(batch.phone_count, batch.phonemes.shape[1])
        frames = Padding(batch.frame_count, batch.mel.shape[2])
        target = (batch.mel.transpose(1, 2) - self.statistics.mel_mean) / self.statistics.mel_std
        hidden = self.acoustic.encode(batch.phonemes, phones)
        first, second, _ = self.acoustic.decode(hidden, batch.durations, phones, frames)
        losses = {"first": mel_loss(first, target, frames), "second": mel_loss(second, target, frames)}
        norm = self._update(0, self.acoustic, losses["first"] + losses["second"])
        keep = min(self.ema_decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for name, new in self._averaged().items():
                self.average[name].lerp_(new, 1 - keep)
        self.steps += 1
        return {name: loss.item() for name, loss in losses.items()} | {"gradient_norm": norm}

    def duration_step(self, batch: Batch) -> dict[str, float]:
        """Update the duration model; its loss."""
        self.acoustic.eval()
        self.durations.train()
        phones = Padding(batch.phone_count, batch.phonemes.shape[1])
        with torch.no_grad():
            hidden = self.acoustic.encode(batch.phonemes, phones)
        target = (torch.log1p(batch.durations) - self.statistics.duration_mean) / self.statistics.duration_std
        predicted = self.durations(hidden, phones)
        loss = functional.huber_loss(predicted[phones.valid], target[phones.valid])
        norm = self._update(1, self.durations, loss)
        return {"duration": loss.item(), "gradient_norm": norm}

    def _update(self, phase: int, part: nn.Module, loss: Tensor) -> float:
        self.optimizers[phase].zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(part.parameters(), self.clip_norm)
        self.optimizers[phase].step()
        self.schedules[phase].step()
        return norm.item()

    def _averaged(self) -> dict[str, Tensor]:
        state = self.acoustic.state_dict()
        return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
