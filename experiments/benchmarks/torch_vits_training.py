"""The training of VITS in torch: the reference of the benchmarks.

Written from the paper (arXiv 2106.06103, section 2). The alignment is searched on the CPU by the loops of
`alignment_search.py`, as the Cython code of the release does. Dropout is left out, and random numbers are arguments, so
that a step can be compared with one of jaxvoice.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.alignment_search import numba_search
from experiments.benchmarks.torch_hifigan import DiscriminatorOutput, PeriodDiscriminator, weight_norm
from experiments.benchmarks.torch_vits import LOG_TWO_PI, VITS
from jaxvoice.dsp.mel_config import MelConfig, mel_filterbank
from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.vits.config import waveform_layers
from jaxvoice.training.optimizers import OptimizerConfig


class WaveformDiscriminator(nn.Module):
    """Strided grouped convolutions over the waveform."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        layers = waveform_layers(config)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv1d(inputs, outputs, taps, stride, groups=groups, padding=taps // 2))
            for inputs, outputs, taps, stride, groups in layers
        )
        self.conv_post = weight_norm(nn.Conv1d(layers[-1][1], 1, 3, padding=1))

    def forward(self, audio: Float[Tensor, "batch 1 samples"]) -> DiscriminatorOutput:
        x, features = audio, []
        for conv in self.convs:
            x = functional.leaky_relu(conv(x), 0.1)
            features.append(x)
        scores = self.conv_post(x)
        return scores.flatten(1), [*features, scores]


class Discriminators(nn.Module):
    """The discriminator of the waveform, followed by one for each period."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        periods = [PeriodDiscriminator(period, width=config.width) for period in config.periods]
        self.nets = nn.ModuleList([WaveformDiscriminator(config), *periods])

    def forward(self, audio: Float[Tensor, "batch 1 samples"]) -> list[DiscriminatorOutput]:
        return [net(audio) for net in self.nets]


class Spectrograms(nn.Module):
    """Linear spectrograms of whole frames, and their log-mels."""

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.window = torch.hann_window(config.win_length)
        self.filters = torch.from_numpy(np.array(mel_filterbank(config), np.float32))

    def linear(self, audio: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch bins frames"]:
        """Magnitudes, with a constant below the root."""
        config = self.config
        padded = functional.pad(audio[:, None], (config.pad, config.pad), "reflect")[:, 0]
        options: dict[str, Any] = {"center": False, "return_complex": True}
        spectrum = torch.stft(padded, config.n_fft, config.hop_length, config.win_length, self.window, **options)
        return torch.sqrt(spectrum.real.square() + spectrum.imag.square() + config.magnitude_floor)

    def mel(self, linear: Float[Tensor, "batch bins frames"]) -> Float[Tensor, "batch mels frames"]:
        """The log-mel of a linear spectrogram."""
        return torch.log((self.filters @ linear).clamp_min(self.config.log_floor))


class Batch(NamedTuple):
    """Utterances, and the random numbers of a step."""

    audio: Float[Tensor, "batch samples"]
    frames: Int[Tensor, " batch"]
    tokens: Int[Tensor, "batch tokens"]
    token_count: Int[Tensor, " batch"]
    speaker: Int[Tensor, " batch"] | None
    noise: Float[Tensor, "batch channels frames"]
    duration_noise: Float[Tensor, "batch 2 tokens"]
    starts: Int[Tensor, " batch"]


class Trainer:
    """Network and discriminators with their optimisers, and the step that trains them as `VITSTask` does.

    As in jaxvoice, the generator runs once, and its losses are those of the updated discriminators. `skip_unused`
    leaves out gradients that the published step does not use: those of the discriminators for the generator's losses.
    """

    def __init__(
        self,
        network: VITS,
        discriminators: Discriminators,
        mel: MelConfig,
        optimizer: OptimizerConfig,
        segment: int,
        *,
        skip_unused: bool = False,
    ) -> None:
        self.network, self.discriminators, self.segment, self.hop = network, discriminators, segment, mel.hop_length
        self.spectrograms, self.skip_unused = Spectrograms(mel), skip_unused
        settings: dict[str, Any] = {
            "lr": optimizer.learning_rate,
            "betas": (optimizer.b1, optimizer.b2),
            "eps": optimizer.eps,
            "weight_decay": optimizer.weight_decay,
        }
        self.optim_g = torch.optim.AdamW(network.parameters(), **settings)
        self.optim_d = torch.optim.AdamW(discriminators.parameters(), **settings)

    def step(self, batch: Batch) -> dict[str, float]:
        """One step; returns losses under the names of jaxvoice."""
        linear = self.spectrograms.linear(batch.audio)
        inside = (torch.arange(linear.shape[2])[None] < batch.frames[:, None])[:, None].float()
        linear = linear * inside
        mel = self.spectrograms.mel(linear)
        fake, kl, durations = self._generate(batch, linear, inside)
        real = _cut(batch.audio[:, None], batch.starts * self.hop, self.segment * self.hop)
        discriminator = self._train_discriminators(real, fake.detach())
        losses = {"kl": kl, "durations": durations, **self._adversarial(real, fake)}
        target = _cut(mel, batch.starts, self.segment)
        losses["mel_l1"] = (target - self.spectrograms.mel(self.spectrograms.linear(fake[:, 0]))).abs().mean()
        total = kl + durations + losses["adversarial"] + losses["feature"] + 45 * losses["mel_l1"]
        self.optim_g.zero_grad()
        total.backward()
        self.optim_g.step()
        losses |= {"generator": total, "discriminator": discriminator}
        return {name: float(loss.detach()) for name, loss in losses.items()}

    def _generate(self, batch: Batch, linear: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The segments, the divergence, and the loss of the durations."""
        network: Any = self.network
        g = network.condition(batch.speaker)
        mask = (torch.arange(batch.tokens.shape[1])[None] < batch.token_count[:, None])[:, None].float()
        hidden, mean, log_scale = network.enc_p(batch.tokens, mask)
        q_mean, q_log_scale = network.enc_q(linear, inside, g)
        z = (q_mean + batch.noise * q_log_scale.exp()) * inside
        z_p = network.flow(z, inside, g)
        durations = self._align(z_p, mean, log_scale, batch)
        of_durations = network.dp.loss(hidden, mask, durations[:, None].float() * mask, batch.duration_noise, g)
        ends = durations.cumsum(1)
        token = (ends[:, None] <= torch.arange(z.shape[2])[None, :, None]).sum(2).clamp_max(mean.shape[2] - 1)
        token = token[:, None].expand(-1, mean.shape[1], -1)
        p_mean, p_log_scale = mean.gather(2, token), log_scale.gather(2, token)
        divergence = p_log_scale - q_log_scale - 0.5 + 0.5 * (z_p - p_mean).square() * torch.exp(-2 * p_log_scale)
        kl = (divergence * inside).sum() / inside.sum()
        return network.dec(_cut(z, batch.starts, self.segment), g), kl, of_durations.sum() / mask.sum()

    @torch.no_grad()
    def _align(self, z_p: Tensor, mean: Tensor, log_scale: Tensor, batch: Batch) -> Int[Tensor, "batch tokens"]:
        precision = torch.exp(-2 * log_scale)
        constant = (-0.5 * LOG_TWO_PI - log_scale - 0.5 * mean.square() * precision).sum(1)
        scores = constant[:, None] + (-0.5 * z_p.square()).mT @ precision + z_p.mT @ (mean * precision)
        durations = torch.zeros(mean.shape[0], mean.shape[2], dtype=torch.long)
        for row, (frames, tokens) in enumerate(zip(batch.frames.tolist(), batch.token_count.tolist(), strict=True)):
            found = numba_search(scores[row : row + 1, :frames, :tokens].contiguous().numpy())
            durations[row, :tokens] = torch.from_numpy(found[0].astype(np.int64))
        return durations

    def _train_discriminators(self, real: Tensor, fake: Tensor) -> Tensor:
        self.discriminators.requires_grad_(True)
        pairs = zip(self.discriminators(real), self.discriminators(fake), strict=True)
        loss = torch.stack([(1 - r[0]).square().mean() + f[0].square().mean() for r, f in pairs]).sum()
        self.optim_d.zero_grad()
        loss.backward()
        self.optim_d.step()
        return loss

    def _adversarial(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        self.discriminators.requires_grad_(not self.skip_unused)
        with torch.set_grad_enabled(not self.skip_unused):
            of_real = self.discriminators(real)
        of_fake = self.discriminators(fake)
        adversarial = torch.stack([(1 - scores).square().mean() for scores, _ in of_fake]).sum()
        pairs = zip(of_real, of_fake, strict=True)
        terms = [(a.detach() - b).abs().mean() for (_, r), (_, f) in pairs for a, b in zip(r, f, strict=True)]
        return {"adversarial": adversarial, "feature": 2 * torch.stack(terms).sum()}


def _cut(x: Float[Tensor, "batch channels time"], starts: Tensor, size: int) -> Float[Tensor, "batch channels {size}"]:
    """`size` positions of each example from its start; positions after the end are zero."""
    padded = functional.pad(x, (0, size))
    return torch.stack([row[:, start : start + size] for row, start in zip(padded, starts.tolist(), strict=True)])
