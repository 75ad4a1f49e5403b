"""Networks of the structure of RAVE exports in plain torch: small, scriptable, with streaming caches in buffers."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST = 4
"""The largest batch that the caches hold."""


class CachedPadding(nn.Module):
    """Left padding with the end of the previous chunk."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        self.register_buffer("pad", torch.zeros(MOST, channels, padding))

    def forward(self, x: Tensor) -> Tensor:
        if self.padding:
            x = torch.cat([self.pad[: x.shape[0]], x], -1)
            self.pad[: x.shape[0]].copy_(x[..., -self.padding :])
        return x


class CachedConv1d(nn.Module):
    """A convolution that pads with the end of the previous chunk."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.cache = CachedPadding(inputs, dilation * (kernel - 1) + 1 - stride)
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, dilation=dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.cache(x))


class CachedConvTranspose1d(nn.Module):
    """A transposed convolution that keeps the overlap with the next chunk."""

    def __init__(self, inputs: int, outputs: int, rate: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose1d(inputs, outputs, 2 * rate, rate)
        self.overlap = rate
        self.register_buffer("cache", torch.zeros(MOST, outputs, rate))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        batch = x.shape[0]
        y[..., : self.overlap] += self.cache[:batch]
        self.cache[:batch].copy_(y[..., -self.overlap :])
        bias = self.conv.bias
        if bias is not None:
            self.cache[:batch] -= bias.unsqueeze(-1)
        return y[..., : -self.overlap]


class Snake(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + 1e-9).reciprocal() * (self.alpha * x).sin().pow(2)


class Residual(nn.Module):
    """Convolutions and a skip connection that is delayed by their latency."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.LeakyReLU(0.2), CachedConv1d(channels, channels, 3, dilation=dilation),
            nn.LeakyReLU(0.2), CachedConv1d(channels, channels, 1),
        )  # fmt: skip
        self.wait = CachedPadding(channels, dilation)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.wait(x)[..., : x.shape[-1]]


class AdaptiveNormalization(nn.Module):
    """AdaIN with statistics of source and target in buffers, updated while their flags are set."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("mean_x", 0.0), ("std_x", 1.0), ("mean_y", 0.0), ("std_y", 1.0)):
            self.register_buffer(name, torch.full((MOST, channels, 1), value))
        for name in ("learn_x", "learn_y", "num_update_x", "num_update_y"):
            self.register_buffer(name, torch.zeros(1))

    def update(self, target: Tensor, source: Tensor, count: Tensor) -> None:
        batch = source.shape[0]
        target[:batch] += (source - target[:batch]) / (count + 1)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        if bool(self.learn_y):
            self.update(self.mean_y, x.mean(-1, keepdim=True), self.num_update_y)
            self.update(self.std_y, x.std(-1, keepdim=True), self.num_update_y)
            self.num_update_y += 1
            return x
        if bool(self.learn_x):
            self.update(self.mean_x, x.mean(-1, keepdim=True), self.num_update_x)
            self.update(self.std_x, x.std(-1, keepdim=True), self.num_update_x)
            self.num_update_x += 1
        x = (x - self.mean_x[:batch]) / (self.std_x[:batch] + 1e-5)
        return x * self.std_y[:batch] + self.mean_y[:batch]


def reversed_half(x: Tensor) -> Tensor:
    """Every other band with every other sample's sign changed."""
    mask = torch.ones_like(x)
    mask[..., 1::2, ::2] = -1
    return x * mask


class Pqmf(nn.Module):
    """Analysis and synthesis in bands by cached convolutions; `forward` is the polyphase analysis."""

    def __init__(self, bands: int = 4, taps: int = 16) -> None:
        super().__init__()
        self.bands = bands
        self.forward_conv = CachedConv1d(1, bands, taps + 1, bands)
        self.inverse_conv = CachedConv1d(bands, bands, taps // bands + 1)
        self.register_buffer("blocks", torch.randn(bands, bands, taps // bands))

    @torch.jit.export
    def analysis(self, x: Tensor) -> Tensor:
        return reversed_half(self.forward_conv(x))

    @torch.jit.export
    def synthesis(self, x: Tensor) -> Tensor:
        y = self.inverse_conv(reversed_half(x)) * self.bands
        y = y.flip(1).permute(0, 2, 1)
        return y.reshape(y.shape[0], y.shape[1], -1, self.bands).permute(0, 2, 1, 3).reshape(y.shape[0], 1, -1)

    def forward(self, x: Tensor) -> Tensor:
        y = x.view(x.shape[0], -1, self.bands).transpose(1, 2)
        y = functional.conv1d(y, self.blocks, padding=self.blocks.shape[-1] // 2)[..., :-1]
        return reversed_half(y)


class EncoderV1(nn.Module):
    """Batch norm, LeakyReLU, strided convolution; means and scales from groups of channels."""

    def __init__(self, bands: int, width: int, latent: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(bands, width, 7, padding=3, bias=False), nn.BatchNorm1d(width), nn.LeakyReLU(0.2),
            nn.Conv1d(width, 2 * width, 5, 2, padding=2, bias=False), nn.LeakyReLU(0.2),
            nn.Conv1d(2 * width, 2 * latent, 5, padding=2, groups=2, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return z / torch.norm(z, p=2.0, dim=1, keepdim=True)


class EncoderV2(nn.Module):
    def __init__(self, bands: int, width: int, latent: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            CachedConv1d(bands, width, 7), AdaptiveNormalization(width), Residual(width, 1), Residual(width, 3),
            Snake(width), CachedConv1d(width, 2 * width, 4, 2), Snake(2 * width),
            CachedConv1d(2 * width, 2 * latent, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def amplitude_to_impulse_response(amplitude: Tensor, size: int) -> Tensor:
    """A windowed filter from a real half spectrum."""
    spectrum = torch.view_as_complex(torch.stack([amplitude, torch.zeros_like(amplitude)], -1))
    taps = torch.fft.irfft(spectrum)
    length = taps.shape[-1]
    taps = torch.roll(taps, length // 2, -1)
    taps = taps * torch.hann_window(length, dtype=taps.dtype, device=taps.device)
    return torch.roll(functional.pad(taps, (0, size - length)), -(length // 2), -1)


def fft_convolve(signal: Tensor, kernel: Tensor) -> Tensor:
    signal = functional.pad(signal, (0, signal.shape[-1]))
    kernel = functional.pad(kernel, (kernel.shape[-1], 0))
    y = torch.fft.irfft(torch.fft.rfft(signal) * torch.fft.rfft(kernel))
    return y[..., y.shape[-1] // 2 :]


def mod_sigmoid(x: Tensor) -> Tensor:
    return 2 * torch.sigmoid(x) ** 2.3 + 1e-7


class NoiseGenerator(nn.Module):
    """Filtered noise: a network predicts the amplitude of each band."""

    def __init__(self, width: int, bands: int, noise_bands: int = 5, rate: int = 16) -> None:
        super().__init__()
        self.bands, self.rate = bands, rate
        self.net = nn.Sequential(
            nn.Conv1d(width, width, 3, 4, padding=1), nn.LeakyReLU(0.2),
            nn.Conv1d(width, bands * noise_bands, 3, 4, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        amplitude = mod_sigmoid(self.net(x) - 5)
        amplitude = amplitude.permute(0, 2, 1)
        amplitude = amplitude.reshape(amplitude.shape[0], amplitude.shape[1], self.bands, -1)
        response = amplitude_to_impulse_response(amplitude, self.rate)
        noise = torch.rand_like(response) * 2 - 1
        noise = fft_convolve(noise, response).permute(0, 2, 1, 3)
        return noise.contiguous().reshape(noise.shape[0], noise.shape[1], -1)


class GeneratorV1(nn.Module):
    """Waveform and loudness from shared features, and noise if its flag is set."""

    warmed_up: Tensor

    def __init__(self, latent: int, width: int, bands: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(latent, width, 7, padding=3), nn.LeakyReLU(0.2),
            nn.ConvTranspose1d(width, width, 4, 2, padding=1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.waveform, self.loudness = nn.Conv1d(width, bands, 7, padding=3), nn.Conv1d(width, 1, 3, padding=1)
        self.noise = NoiseGenerator(width, bands)
        self.register_buffer("warmed_up", torch.tensor(1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(x)
        y = torch.tanh(self.waveform(x)) * mod_sigmoid(self.loudness(x))
        if self.warmed_up:
            y = y + self.noise(x)
        return y


class GeneratorV2(nn.Module):
    """A recurrent layer and cached upsampling; one half of the last channels modulates the other."""

    def __init__(self, latent: int, width: int, bands: int) -> None:
        super().__init__()
        self.gru = nn.GRU(latent, latent, 2, batch_first=True)
        self.register_buffer("gru_state", torch.zeros(2, MOST, latent))
        self.net = nn.Sequential(
            CachedConv1d(latent, width, 3), Snake(width), CachedConvTranspose1d(width, width // 2, 2),
            Residual(width // 2, 1), nn.LeakyReLU(0.2), CachedConv1d(width // 2, 2 * bands, 7),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.gru(x.permute(0, 2, 1), self.gru_state[:, : x.shape[0]])
        self.gru_state[:, : x.shape[0]].copy_(state)
        x, amplitude = self.net(y.permute(0, 2, 1)).split(self.net[-1].conv.out_channels // 2, 1)
        return torch.tanh(x * torch.sigmoid(amplitude))


class ResidualQuantizer(nn.Module):
    """Each codebook quantizes the residual of the ones before."""

    def __init__(self, latent: int, codes: int = 8, layers: int = 2) -> None:
        super().__init__()
        self.register_buffer("embed", torch.randn(layers, codes, latent))

    @torch.jit.export
    def decode(self, index: Tensor) -> Tensor:
        y = torch.zeros(index.shape[0], self.embed.shape[-1], index.shape[-1])
        for i in range(self.embed.shape[0]):
            y = y + functional.embedding(index[:, i], self.embed[i]).permute(0, 2, 1)
        return y

    def forward(self, z: Tensor) -> Tensor:
        rest = z.permute(0, 2, 1)
        rest = rest.reshape(-1, rest.shape[-1])
        found = []
        for book in self.embed.unbind(0):
            distance = -(rest.pow(2).sum(1, keepdim=True) - 2 * rest @ book.t() + book.t().pow(2).sum(0, keepdim=True))
            index = distance.max(dim=-1).indices
            rest = rest - functional.embedding(index, book)
            found.append(index.view(z.shape[0], z.shape[-1]))
        return torch.stack(found, 1)


def vector_to_angles(x: Tensor) -> Tensor:
    """Angles of unit vectors, scaled to -1 to 1."""
    norms = x.flip(1).pow(2).cumsum(1).sqrt().flip(1)
    angles = torch.arccos(x[:, :-1] / norms[:, :-1])
    angles[:, -1] = torch.where(x[:, -1] >= 0, angles[:, -1], 2 * math.pi - angles[:, -1])
    angles = angles / math.pi
    angles[:, -1] = angles[:, -1] - 1
    return 2 * (angles / 2 - torch.floor(angles / 2)) - 1


def angles_to_vector(angles: Tensor) -> Tensor:
    angles = angles % 2.0 * math.pi
    sines = torch.cat([torch.ones_like(angles[:, :1]), angles.sin().cumprod(1)], 1)
    return sines * torch.cat([angles.cos(), torch.ones_like(angles[:, :1])], 1)


class Export(nn.Module):
    """The methods of a RAVE export: audio to the first principal components of the latents, and back."""

    latent_pca: Tensor
    latent_mean: Tensor

    def __init__(self, bands: int = 4, width: int = 8, latent: int = 4, kept: int = 2, version: int = 2) -> None:
        super().__init__()
        self.latent, self.kept = latent, kept
        self.pqmf = Pqmf(bands)
        self.encoder = EncoderV1(bands, width, latent) if version == 1 else EncoderV2(bands, width, latent)
        self.decoder = GeneratorV1(latent, width, bands) if version == 1 else GeneratorV2(latent, width, bands)
        self.register_buffer("latent_pca", torch.linalg.qr(torch.randn(latent, latent))[0])
        self.register_buffer("latent_mean", torch.randn(latent))

    @torch.jit.export
    def reparametrize(self, z: Tensor) -> Tensor:
        mean, scale = z.chunk(2, 1)
        std = functional.softplus(scale) + 1e-4
        return torch.randn_like(mean) * std + mean

    @torch.jit.export
    def encode(self, x: Tensor) -> Tensor:
        z = self.reparametrize(self.encoder(self.pqmf.analysis(x)))
        z = functional.conv1d(z - self.latent_mean.unsqueeze(-1), self.latent_pca.unsqueeze(-1))
        return z[:, : self.kept]

    @torch.jit.export
    def decode(self, z: Tensor, from_forward: bool = False) -> Tensor:
        noise = torch.randn(z.shape[0], self.latent - z.shape[1], z.shape[-1]).type_as(z)
        z = functional.conv1d(torch.cat([z, noise], 1), self.latent_pca.t().unsqueeze(-1))
        y = self.pqmf.synthesis(self.decoder(z + self.latent_mean.unsqueeze(-1)))
        if y.shape[1] > 1 and not from_forward:
            y = y.mean(1, keepdim=True)
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x), from_forward=True)


class Spherical(nn.Module):
    """Latents on a sphere, as angles and back; noise beside them."""

    def forward(self, z: Tensor) -> Tensor:
        z = z / torch.norm(z, p=2, dim=1, keepdim=True)
        z = angles_to_vector(vector_to_angles(z))
        noise = torch.randn(z.shape[0], 2, z.shape[-1]).type_as(z)
        return torch.cat([z, noise], 1)
