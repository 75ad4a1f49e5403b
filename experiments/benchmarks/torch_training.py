"""The training of HiFi-GAN in torch: mel front end, losses, and the training step in the published order.

Paper: arXiv 2010.05646, sections 2.4 and 3. Constants are those of github.com/jik876/hifi-gan (`train.py`, `models.py`,
`meldataset.py`), against whose numbers `tests/reference` checks this file.
"""

from collections.abc import Iterable
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.torch_hifigan import (
    DiscriminatorOutput,
    Generator,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
)


class LogMel(nn.Module):
    """Log-mel spectrogram of the released models: amplitudes, Slaney filters, natural logarithm, no normalisation.

    `filters` (mels, bins) is the filter bank, by default that of librosa for the other arguments. With `center`, the
    audio is reflected by `n_fft / 2` samples at both ends, and the magnitude has no constant (NVIDIA's Tacotron 2).
    """

    window: Tensor
    filterbank: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 22050,
        n_fft: int = 1024,
        hop_length: int = 256,
        win_length: int = 1024,
        num_mels: int = 80,
        fmin: float = 0.0,
        fmax: float | None = 8000.0,
        filters: Float[np.ndarray, "mels bins"] | None = None,
        center: bool = False,
    ) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.win_length = n_fft, hop_length, win_length
        self.pad = n_fft // 2 if center else (n_fft - hop_length) // 2
        self.floor = 0.0 if center else 1e-9
        if filters is None:
            import librosa

            filters = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=num_mels, fmin=fmin, fmax=fmax)
        self.register_buffer("filterbank", torch.tensor(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)

    def forward(self, audio: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch mels frames"]:
        padded = functional.pad(audio[:, None], (self.pad, self.pad), "reflect")[:, 0]
        spectrum = torch.stft(
            padded, self.n_fft, self.hop_length, self.win_length, self.window, center=False, return_complex=True
        )
        magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + self.floor)
        return torch.log(torch.clamp(self.filterbank @ magnitude, min=1e-5))


def discriminator_loss(real: Iterable[DiscriminatorOutput], fake: Iterable[DiscriminatorOutput]) -> Float[Tensor, ""]:
    """Least squares: real to one, generated to zero; summed over discriminators."""
    return _total(((1 - r) ** 2).mean() + (f**2).mean() for (r, _), (f, _) in zip(real, fake, strict=True))


def generator_loss(fake: Iterable[DiscriminatorOutput]) -> Float[Tensor, ""]:
    """Least squares: generated to one; summed over discriminators."""
    return _total(((1 - f) ** 2).mean() for f, _ in fake)


def feature_loss(real: Iterable[DiscriminatorOutput], fake: Iterable[DiscriminatorOutput]) -> Float[Tensor, ""]:
    """Twice the sum, over all feature maps, of the mean absolute difference."""
    pairs = zip(real, fake, strict=True)
    return 2 * _total((a - b).abs().mean() for (_, r), (_, f) in pairs for a, b in zip(r, f, strict=True))


def _total(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(terms)).sum()


class Trainer:
    """The three networks with their optimisers, and the step that trains them.

    `skip_unused` leaves out gradients that the published step does not use: those of the discriminators in the
    generator's update. The results are the same.
    """

    def __init__(
        self,
        generator: Generator,
        mpd: MultiPeriodDiscriminator,
        msd: MultiScaleDiscriminator,
        *,
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.8, 0.99),
        weight_decay: float = 0.01,
        lr_decay: float = 0.999,
        loss_mel: LogMel | None = None,
        autocast: torch.dtype | None = None,
        skip_unused: bool = False,
    ) -> None:
        self.generator, self.mpd, self.msd = generator, mpd, msd
        self.device = next(generator.parameters()).device
        self.loss_mel = (loss_mel or LogMel(fmax=None)).to(self.device)
        self.autocast, self.skip_unused = autocast, skip_unused
        parameters = chain(msd.parameters(), mpd.parameters())
        self.optim_g = torch.optim.AdamW(generator.parameters(), learning_rate, betas, weight_decay=weight_decay)
        self.optim_d = torch.optim.AdamW(parameters, learning_rate, betas, weight_decay=weight_decay)
        self.schedules = [
            torch.optim.lr_scheduler.ExponentialLR(optimiser, lr_decay) for optimiser in (self.optim_g, self.optim_d)
        ]

    def step(
        self, mel: Float[Tensor, "batch mels frames"], audio: Float[Tensor, "batch 1 samples"]
    ) -> dict[str, Float[Tensor, ""]]:
        """One step: discriminators first on the detached output, then the generator against the updated ones.

        **Returns:** the seven losses of the step, detached; the mel loss times its weight, 45.
        """
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            fake = self.generator(mel)
            detached = fake.detach()
            disc_period = discriminator_loss(self.mpd(audio), self.mpd(detached))
            disc_scale = discriminator_loss(self.msd(audio), self.msd(detached))
        self.optim_d.zero_grad()
        (disc_period + disc_scale).backward()
        self.optim_d.step()

        if self.skip_unused:
            self._freeze(True)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            real_period, fake_period = self.mpd(audio), self.mpd(fake)
            real_scale, fake_scale = self.msd(audio), self.msd(fake)
            losses = {
                "adv_period": generator_loss(fake_period),
                "adv_scale": generator_loss(fake_scale),
                "feature_period": feature_loss(real_period, fake_period),
                "feature_scale": feature_loss(real_scale, fake_scale),
            }
        target, output = self.loss_mel(audio[:, 0]), self.loss_mel(fake[:, 0].float())
        losses["mel_times_45"] = 45 * functional.l1_loss(output, target)
        self.optim_g.zero_grad()
        _total(losses.values()).backward()
        self.optim_g.step()
        if self.skip_unused:
            self._freeze(False)
        losses = {"disc_period": disc_period, "disc_scale": disc_scale} | losses
        return {name: loss.detach() for name, loss in losses.items()}

    def _freeze(self, frozen: bool) -> None:
        for parameter in chain(self.mpd.parameters(), self.msd.parameters()):
            parameter.requires_grad_(not frozen)

    def end_epoch(self) -> None:
        """Decay both learning rates."""
        for schedule in self.schedules:
            schedule.step()
