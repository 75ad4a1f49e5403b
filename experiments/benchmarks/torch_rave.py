"""RAVE v2 and its training in torch: the reference of the benchmarks and of the tests.

Written from the paper (arXiv 2111.05011) and from jaxvoice's description of version 2.3.1 of the release. Tensors carry
the names of released checkpoints, so that one set of arrays serves both libraries. There are no noise branch, instance
norms or Snake activations, and the latents are variational.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.torch_hifigan import weight_norm
from jaxvoice.dsp.pqmf import pqmf_filters, pqmf_kernels, pqmf_prototype
from jaxvoice.models.rave.config import DiscriminatorConfig, EncoderConfig, GeneratorConfig, RaveConfig
from jaxvoice.models.rave.training_config import RaveTrainingConfig
from jaxvoice.training.adversarial_training import AdversarialMode

_SLOPE = 0.2


class Conv(nn.Conv1d):
    """A convolution without bias, with as many zeros on both sides, or one more on the right."""

    def __init__(self, inputs: int, outputs: int, taps: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, taps, stride, dilation=dilation, bias=False)
        reach = (taps - 1) * dilation
        self.sides = (reach // 2, reach - reach // 2)

    def forward(self, input: Float[Tensor, "batch inputs time"]) -> Float[Tensor, "batch outputs positions"]:
        return super().forward(functional.pad(input, self.sides))


class Residual(nn.Module):
    """A dilated and a pointwise convolution with a shortcut, under the names of the release."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        unit, self.aligned = nn.Module(), nn.Module()
        unit.net = nn.Sequential(
            nn.LeakyReLU(_SLOPE),
            weight_norm(Conv(channels, channels, 3, dilation=dilation)),
            nn.LeakyReLU(_SLOPE),
            weight_norm(Conv(channels, channels, 1)),
        )
        self.aligned.branches = nn.ModuleList([unit])

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        branches = cast(nn.ModuleList, self.aligned.branches)
        return x + branches[0].get_submodule("net")(x)


def encoder_net(config: EncoderConfig, inputs: int, outputs: int) -> nn.Sequential:
    """The layers of the encoder of v2."""
    channels = config.capacity
    layers: list[nn.Module] = [weight_norm(Conv(inputs, channels, 7))]
    for ratio, dilations in zip(config.ratios, config.dilations, strict=True):
        layers += [Residual(channels, dilation) for dilation in dilations]
        layers += [nn.LeakyReLU(_SLOPE), weight_norm(Conv(channels, 2 * channels, 2 * ratio, stride=ratio))]
        channels *= 2
    return nn.Sequential(*layers, nn.LeakyReLU(_SLOPE), weight_norm(Conv(channels, outputs, 3)))


def generator_net(config: GeneratorConfig, inputs: int, outputs: int) -> nn.Sequential:
    """The layers of the generator of v2, with the amplitudes of its outputs."""
    channels = config.capacity * 2 ** len(config.ratios)
    layers: list[nn.Module] = [weight_norm(Conv(inputs, channels, 3))]
    for ratio, dilations in zip(config.ratios[::-1], config.dilations[::-1], strict=True):
        up = nn.ConvTranspose1d(channels, channels // 2, 2 * ratio, ratio, ratio // 2, bias=False)
        channels //= 2
        layers += [nn.LeakyReLU(_SLOPE), weight_norm(up)]
        layers += [Residual(channels, dilation) for dilation in dilations]
    return nn.Sequential(*layers, nn.LeakyReLU(_SLOPE), weight_norm(Conv(channels, 2 * outputs, 7)))


class PQMF(nn.Module):
    """The filter bank."""

    def __init__(self, config: RaveConfig) -> None:
        super().__init__()
        prototype = pqmf_prototype(config.pqmf.attenuation, config.pqmf.num_bands)
        filters = pqmf_filters(prototype, config.pqmf.num_bands)
        self.bands = config.pqmf.num_bands
        for name, kernel in zip(("forward_kernel", "inverse_kernel"), pqmf_kernels(filters), strict=True):
            self.register_buffer(name, torch.tensor(kernel, dtype=torch.float32), persistent=False)

    def _invert(self, x: Float[Tensor, "rows bands frames"]) -> Float[Tensor, "rows bands frames"]:
        signs = torch.ones_like(x[0])
        signs[1::2, ::2] = -1
        return x * signs

    def analysis(self, audio: Float[Tensor, "batch channels samples"]) -> Float[Tensor, "batch bands frames"]:
        kernel = self.get_buffer("forward_kernel")
        half = kernel.shape[-1] // 2
        rows = functional.pad(audio.reshape(-1, 1, audio.shape[-1]), (half, half))
        bands = self._invert(functional.conv1d(rows, kernel, stride=self.bands))
        return bands.reshape(len(audio), -1, bands.shape[-1])

    def synthesis(self, bands: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch channels samples"]:
        kernel = self.get_buffer("inverse_kernel")
        half = kernel.shape[-1] // 2
        rows = self._invert(bands.reshape(-1, self.bands, bands.shape[-1]))
        samples = self.bands * functional.conv1d(functional.pad(rows, (half, half)), kernel)
        return samples.flip(1).transpose(1, 2).reshape(len(bands), -1, self.bands * bands.shape[-1])


class Rave(nn.Module):
    """v2 with variational latents; it encodes and decodes sub-bands, or decodes to audio.

    **Raises:** `ValueError` for a configuration with other parts.
    """

    def __init__(self, config: RaveConfig) -> None:
        super().__init__()
        encoder, generator = config.encoder, config.generator
        parts = (encoder.version, encoder.input, generator.version, config.bottleneck.kind, config.padding)
        options = (encoder.snake, encoder.adain, generator.snake, generator.adain, generator.noise)
        if parts != ("v2", "pqmf", "v2", "variational", "centered") or any(options):
            raise ValueError(f"{config} has parts that torch_rave does not have; use v2 or v2_nopqmf.")
        self.config, self.pqmf = config, PQMF(config)
        bands, latents = config.n_channels * config.pqmf.num_bands, config.bottleneck.latent_size
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.encoder = nn.Module()
        self.encoder.encoder.net = encoder_net(encoder, bands, 2 * latents)
        outputs = bands if generator.output == "pqmf" else config.n_channels
        self.decoder.net = generator_net(generator, latents, outputs)

    def encode(self, bands: Float[Tensor, "batch bands frames"]) -> tuple[Tensor, Tensor]:
        """The means of the latents and their deviations."""
        mean, scale = self.get_submodule("encoder.encoder.net")(bands).chunk(2, 1)
        return mean, functional.softplus(scale) + 1e-4

    def decode(self, z: Float[Tensor, "batch latents frames"]) -> Float[Tensor, "batch outputs time"]:
        """The output of the generator."""
        wave, amplitude = self.get_submodule("decoder.net")(z).chunk(2, 1)
        return torch.tanh(wave * torch.sigmoid(amplitude))

    def signals(self, output: Float[Tensor, "batch outputs time"]) -> tuple[Tensor, Tensor]:
        """The audio and the sub-bands of an output of the generator."""
        if self.config.generator.output == "pqmf":
            return self.pqmf.synthesis(output), output
        return output, self.pqmf.analysis(output)

    def forward(self, audio: Float[Tensor, "batch channels samples"]) -> Float[Tensor, "batch channels samples"]:
        """The reconstruction from the means of the latents."""
        return self.signals(self.decode(self.encode(self.pqmf.analysis(audio))[0]))[0]


class ConvNet(nn.Module):
    """A discriminator of waveforms, or of waveforms that are folded to columns."""

    def __init__(self, capacity: int, channels: int, taps: int, *, period: int | None = None) -> None:
        super().__init__()
        self.period = period
        widths = [channels, *(capacity * 2**i for i in range(4))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            if period is None:
                conv: nn.Module = nn.Conv1d(inputs, outputs, taps, 4, taps // 2)
            else:
                conv = nn.Conv2d(inputs, outputs, (taps, 1), (4, 1), (taps // 2, 0))
            layers += [weight_norm(conv), nn.LeakyReLU(_SLOPE)]
        last = nn.Conv1d(widths[-1], 1, 1) if period is None else nn.Conv2d(widths[-1], 1, 1)
        self.net = nn.Sequential(*layers, last)

    def forward(self, audio: Float[Tensor, "batch channels samples"]) -> list[Tensor]:
        """The outputs of the convolutions, of which the last contains the logits."""
        x, features = audio, []
        if self.period is not None:
            padded = functional.pad(audio, (0, -audio.shape[-1] % self.period))
            x = padded.reshape(*audio.shape[:2], -1, self.period)
        for layer in self.net:
            x = layer(x)
            features += [] if isinstance(layer, nn.LeakyReLU) else [x]
        return features


class Discriminators(nn.Module):
    """Discriminators of folded waveforms, then of waveforms at several rates."""

    def __init__(self, config: DiscriminatorConfig, channels: int = 1) -> None:
        super().__init__()
        if config.kind != "period_scale":
            raise ValueError(f"kind is {config.kind!r}; torch_rave has 'period_scale' only.")
        periods, scales = nn.Module(), nn.Module()
        periods.layers = nn.ModuleList(ConvNet(config.capacity, channels, 5, period=p) for p in config.periods)
        scales.layers = nn.ModuleList(ConvNet(config.capacity, channels, 15) for _ in range(config.scales))
        self.discriminators = nn.ModuleList([periods, scales])

    def forward(self, audio: Float[Tensor, "batch channels samples"]) -> list[list[Tensor]]:
        """The features of each discriminator."""
        folded, scales = (cast(nn.ModuleList, part.get_submodule("layers")) for part in self.discriminators)
        features = [layer(audio) for layer in folded]
        for i, layer in enumerate(scales):
            audio = functional.avg_pool1d(audio, 2) if i else audio
            features.append(layer(audio))
        return features


def spectral_distance(
    target: Float[Tensor, "batch channels samples"],
    estimate: Float[Tensor, "batch channels samples"],
    scales: Sequence[int],
    epsilon: float,
) -> Float[Tensor, ""]:
    """Arxiv 2111.05011, equation 5."""
    total = torch.zeros(())
    for scale in scales:
        window = torch.hann_window(scale, device=target.device)
        rows = torch.cat([target, estimate]).reshape(-1, target.shape[-1])
        x, y = torch.stft(rows, scale, scale // 4, window=window, return_complex=True).abs().chunk(2)
        logarithms = torch.log(x + epsilon) - torch.log(y + epsilon)
        total = total + (x - y).square().mean() / x.square().mean() + logarithms.abs().mean()
    return total


class Trainer:
    """Network and discriminators with their optimisers, and the steps that train them as `RaveTask` does.

    As in jaxvoice, a step computes no gradients of networks that it does not update.
    """

    def __init__(self, network: Rave, discriminators: Discriminators, config: RaveTrainingConfig) -> None:
        self.network, self.discriminators, self.config = network, discriminators, config
        parameters = [*network.encoder.parameters(), *network.decoder.parameters()]
        of_generator, of_discriminators = config.generator_optimizer, config.discriminator_optimizer
        self.optim_g, self.optim_d = (
            torch.optim.Adam(given, one.learning_rate, (one.b1, one.b2), one.eps)
            for given, one in ((parameters, of_generator), (discriminators.parameters(), of_discriminators))
        )
        self.schedule = None
        if of_generator.schedule == "linear":
            steps = of_generator.decay_steps or 1
            self.schedule = torch.optim.lr_scheduler.LinearLR(self.optim_g, 1.0, of_generator.decay, steps)
        self.steps = 0

    def step(
        self,
        audio: Float[Tensor, "batch channels samples"],
        noise: Float[Tensor, "batch latents frames"],
        mode: AdversarialMode,
    ) -> dict[str, float]:
        """One step, in which `noise` draws the latents; returns losses under the names of jaxvoice."""
        network, bands = self.network, self.network.pqmf.analysis(audio)
        with torch.set_grad_enabled(mode == "reconstruction"):
            mean, deviation = network.encode(bands)
            variance = deviation.square()
            divergence = (mean.square() + variance - variance.log() - 1).sum(1).mean()
            z = mean + deviation * noise
        with torch.set_grad_enabled(mode != "discriminators"):
            fake = network.signals(network.decode(z))
        if mode == "discriminators":
            return self._train_discriminators(audio, fake[0])
        losses = self._spectral_losses((audio, bands), fake)
        weights, beta = self.config.weights, float(self.config.beta(self.steps))
        total = weights.fullband * losses["fullband"] + weights.multiband * losses["multiband"] + beta * divergence
        losses["regularization"] = divergence
        if mode == "generator":
            judged, weights = self._adversarial_losses(audio, fake[0]), weights.effective
            total = total + weights.adversarial * judged["adversarial"]
            total = total + weights.feature_matching * judged["feature_matching"]
            losses |= judged
        self.optim_g.zero_grad()
        total.backward()
        self.optim_g.step()
        if self.schedule is not None:
            self.schedule.step()
        self.steps += 1
        return {name: float(loss.detach()) for name, loss in {**losses, "generator": total}.items()}

    def _spectral_losses(self, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        config, (first, last) = self.config, self.config.crop
        kept = slice(first, real[1].shape[-1] - last)
        bands, made = (one[1][..., kept] for one in (real, fake))
        return {
            "fullband": spectral_distance(real[0], fake[0], config.scales, config.log_epsilon),
            "multiband": spectral_distance(bands, made, config.multiband_scales, config.log_epsilon),
        }

    def _train_discriminators(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        for parameter in self.discriminators.parameters():
            parameter.requires_grad_(True)
        pairs = zip(self.discriminators(real), self.discriminators(fake), strict=True)
        # The hinge loss.
        terms = [(torch.relu(1 - r[-1]).mean() + torch.relu(1 + f[-1]).mean()) for r, f in pairs]
        loss = torch.stack(terms).sum()
        self.optim_d.zero_grad()
        loss.backward()
        self.optim_d.step()
        self.steps += 1
        return {"discriminator": float(loss.detach())}

    def _adversarial_losses(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        for parameter in self.discriminators.parameters():
            parameter.requires_grad_(False)
        with torch.no_grad():
            of_real = self.discriminators(real)
        of_fake = self.discriminators(fake)
        distances = []
        for real_maps, fake_maps in zip(of_real, of_fake, strict=True):
            pairs = list(zip(real_maps, fake_maps, strict=True))[self.config.skipped_features :]
            terms: list[Any] = [(r - f).abs().mean() for r, f in pairs]
            if self.config.relative_features:
                terms = [term / r.abs().mean() for term, (r, _) in zip(terms, pairs, strict=True)]
            distances.append(torch.stack(terms).mean())
        adversarial = torch.stack([-maps[-1].mean() for maps in of_fake]).sum()
        return {"adversarial": adversarial, "feature_matching": torch.stack(distances).mean()}
