"""The training of HiFi-VC in torch: the steps of both phases of `jaxvoice.models.hifivc.training`."""

from itertools import chain
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.torch_hifigan import MultiPeriodDiscriminator, MultiScaleDiscriminator
from experiments.benchmarks.torch_hifivc import HiFiVC
from experiments.benchmarks.torch_training import LogMel, discriminator_loss, feature_loss, generator_loss
from jaxvoice.models.hifivc.training import LossWeights


class Batch(NamedTuple):
    """Crops with their features, and mel spectrograms of references."""

    audio: Float[Tensor, "batch samples"]
    content: Float[Tensor, "batch channels frames"]
    pitch: Float[Tensor, "batch 2 subframes"] | None
    reference: Float[Tensor, "batch mels reference_frames"]


class Trainer:
    """Encoders, decoder and discriminators with their optimisers, and the step that trains them.

    As in jaxvoice, the generator runs once per step, its update computes no gradient of the discriminators, and the
    content features are given.
    """

    def __init__(
        self,
        networks: HiFiVC,
        mpd: MultiPeriodDiscriminator,
        msd: MultiScaleDiscriminator,
        *,
        mel: LogMel,
        weights: LossWeights,
        learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.8, 0.99),
        weight_decay: float = 0.01,
    ) -> None:
        self.networks, self.mpd, self.msd, self.mel, self.weights = networks, mpd, msd, mel, weights
        trained: list[nn.Module] = [networks.speaker_encoder, networks.decoder]
        trained += [] if networks.pitch_encoder is None else [networks.pitch_encoder]
        parameters = chain.from_iterable(part.parameters() for part in trained)
        self.optim_g = torch.optim.AdamW(parameters, learning_rate, betas, weight_decay=weight_decay)
        self.discriminators = [*mpd.parameters(), *msd.parameters()]
        self.optim_d = torch.optim.AdamW(self.discriminators, learning_rate, betas, weight_decay=weight_decay)
        self.steps = 0

    def step(
        self, batch: Batch, noise: Float[Tensor, "batch size"], *, adversarial: bool
    ) -> dict[str, Float[Tensor, ""]]:
        """One step, in which `noise` draws the speaker vectors; without discriminators unless `adversarial`.

        **Returns:** the losses of the step, detached, under the names of jaxvoice.
        """
        mean, log_variance = (one[..., 0] for one in self.networks.speaker_encoder(batch.reference))
        speaker = mean + torch.exp(log_variance / 2) * noise
        real, fake = batch.audio, self.networks.decode(batch.content, batch.pitch, speaker[..., None])
        losses = self._train_discriminators(real, fake.detach()) if adversarial else {}
        divergence = (mean.square() + torch.expm1(log_variance) - log_variance).sum(1).mean() / 2
        warmup = min(1.0, (self.steps + 1) / max(1, self.weights.kl_warmup_steps))
        mel_l1 = functional.l1_loss(self.mel(fake), self.mel(real))
        total = self.weights.mel * mel_l1 + self.weights.kl * warmup * divergence
        if adversarial:
            parts = self._adversarial_losses(real, fake)
            total = total + torch.stack(list(parts.values())).sum()
            losses |= parts
        self.optim_g.zero_grad()
        total.backward()
        self.optim_g.step()
        self.steps += 1
        losses |= {"mel_l1": mel_l1, "kl": divergence}
        return {name: loss.detach() for name, loss in losses.items()}

    def _train_discriminators(
        self, real: Float[Tensor, "batch samples"], fake: Float[Tensor, "batch samples"]
    ) -> dict[str, Float[Tensor, ""]]:
        for parameter in self.discriminators:
            parameter.requires_grad_(True)
        losses = {
            name: discriminator_loss(discriminator(real[:, None]), discriminator(fake[:, None]))
            for name, discriminator in (("disc_period", self.mpd), ("disc_scale", self.msd))
        }
        self.optim_d.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        self.optim_d.step()
        for parameter in self.discriminators:
            parameter.requires_grad_(False)
        return losses

    def _adversarial_losses(
        self, real: Float[Tensor, "batch samples"], fake: Float[Tensor, "batch samples"]
    ) -> dict[str, Float[Tensor, ""]]:
        losses = {}
        for name, discriminator in (("period", self.mpd), ("scale", self.msd)):
            of_real, of_fake = discriminator(real[:, None]), discriminator(fake[:, None])
            losses[f"adv_{name}"] = self.weights.adversarial * generator_loss(of_fake)
            # `feature_loss` contains the weight of the release, 2.
            losses[f"feature_{name}"] = self.weights.feature / 2 * feature_loss(of_real, of_fake)
        return losses
