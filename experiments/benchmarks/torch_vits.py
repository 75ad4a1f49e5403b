"""VITS in torch: the reference of the benchmarks and of the tests.

Written from the paper (arXiv 2106.06103). Tensors of a state dict carry the names of jaywalnut310/vits, so one set of
arrays serves both libraries. Noise is an argument of every method. All modules are without dropout, as in inference.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.torch_hifigan import Generator, weight_norm

LOG_TWO_PI = math.log(2 * math.pi)


class LayerNorm(nn.Module):
    """Layer norm over the channels of each position."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        return functional.layer_norm(x.transpose(1, 2), self.gamma.shape, self.gamma, self.beta, self.eps).transpose(
            1, 2
        )


class Attention(nn.Module):
    """Self-attention with learned vectors for the distances of at most `window` positions."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.conv_q, self.conv_k, self.conv_v, self.conv_o = (nn.Conv1d(channels, channels, 1) for _ in range(4))
        shape = (1, 2 * window + 1, channels // heads)
        self.emb_rel_k, self.emb_rel_v = (nn.Parameter(torch.randn(shape) / math.sqrt(shape[2])) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "batch channels time"], mask: Float[Tensor, "batch 1 time"]
    ) -> Float[Tensor, "batch channels time"]:
        time = x.shape[2]
        q, k, v = (conv(x).unflatten(1, (self.heads, -1)).mT for conv in (self.conv_q, self.conv_k, self.conv_v))
        distance = torch.arange(time, device=x.device)[None] - torch.arange(time, device=x.device)[:, None]
        near = distance.abs() <= self.window
        row = distance.clamp(-self.window, self.window) + self.window
        relative = torch.gather(q @ self.emb_rel_k[0].T, 3, row.expand(*q.shape[:3], time)) * near
        logits = (q @ k.mT + relative) / math.sqrt(q.shape[-1])
        logits = logits.masked_fill(mask[:, :, None] * mask[:, :, :, None] == 0, -1e4)
        weights = torch.softmax(logits, -1)
        values = weights @ v
        # The sum over j of the weight of j and the vector of its distance.
        onto = functional.one_hot(row, 2 * self.window + 1).to(weights.dtype) * near[..., None]
        values = values + torch.einsum("bhij,ijr,rd->bhid", weights, onto, self.emb_rel_v[0])
        return self.conv_o(values.mT.flatten(1, 2))


class FeedForward(nn.Module):
    """Two convolutions with a ReLU between them."""

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, hidden, kernel, padding=kernel // 2)
        self.conv_2 = nn.Conv1d(hidden, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.conv_2(torch.relu(self.conv_1(x * mask)) * mask) * mask


class Encoder(nn.Module):
    """The transformer of the text encoder."""

    def __init__(self, channels: int, hidden: int, heads: int, layers: int, kernel: int, window: int) -> None:
        super().__init__()
        self.attn_layers = nn.ModuleList(Attention(channels, heads, window) for _ in range(layers))
        self.norm_layers_1 = nn.ModuleList(LayerNorm(channels) for _ in range(layers))
        self.ffn_layers = nn.ModuleList(FeedForward(channels, hidden, kernel) for _ in range(layers))
        self.norm_layers_2 = nn.ModuleList(LayerNorm(channels) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x * mask
        layers = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for attention, norm_1, feed_forward, norm_2 in layers:
            x = norm_1(x + attention(x, mask))
            x = norm_2(x + feed_forward(x, mask))
        return x * mask


class TextEncoder(nn.Module):
    """Tokens to hidden states and the prior."""

    def __init__(self, symbols: int, channels: int, hidden: int, heads: int, layers: int, kernel: int, window: int):
        super().__init__()
        self.emb = nn.Embedding(symbols, channels)
        self.encoder = Encoder(channels, hidden, heads, layers, kernel, window)
        self.proj = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, tokens: Int[Tensor, "batch time"], mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.emb(tokens).mT * math.sqrt(self.emb.embedding_dim)
        x = self.encoder(x, mask)
        mean, log_scale = (self.proj(x) * mask).chunk(2, 1)
        return x, mean, log_scale


class WN(nn.Module):
    """Gated convolutions with residual and skip connections."""

    def __init__(self, channels: int, kernel: int, layers: int, cond: int) -> None:
        super().__init__()
        self.in_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, 2 * channels, kernel, padding=kernel // 2)) for _ in range(layers)
        )
        self.res_skip_layers = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, 2 * channels if i < layers - 1 else channels, 1)) for i in range(layers)
        )
        if cond:
            self.cond_layer = weight_norm(nn.Conv1d(cond, 2 * channels * layers, 1))

    def forward(self, x: Tensor, mask: Tensor, g: Tensor | None) -> Tensor:
        layers = len(self.in_layers)
        shifts = [0.0] * layers if g is None else self.cond_layer(g).chunk(layers, 1)
        skips = torch.zeros_like(x)
        for i, (conv, res_skip) in enumerate(zip(self.in_layers, self.res_skip_layers, strict=True)):
            tanh_in, gate_in = (conv(x) + shifts[i]).chunk(2, 1)
            out = res_skip(torch.tanh(tanh_in) * torch.sigmoid(gate_in))
            if i < layers - 1:
                residual, out = out.chunk(2, 1)
                x = (x + residual) * mask
            skips = skips + out
        return skips * mask


class PosteriorEncoder(nn.Module):
    """Linear spectrograms to the distribution of the latents."""

    def __init__(self, bins: int, channels: int, kernel: int, layers: int, cond: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(bins, channels, 1)
        self.enc = WN(channels, kernel, layers, cond)
        self.proj = nn.Conv1d(channels, 2 * channels, 1)

    def forward(self, spectrogram: Tensor, mask: Tensor, g: Tensor | None) -> tuple[Tensor, Tensor]:
        x = self.enc(self.pre(spectrogram) * mask, mask, g)
        mean, log_scale = (self.proj(x) * mask).chunk(2, 1)
        return mean, log_scale


class Flip(nn.Module):
    """Reverses the channels; a layer of its own, which gives the couplings even numbers."""

    def forward(self, x: Tensor, mask: Tensor, g: Tensor | None, *, reverse: bool) -> Tensor:
        return x.flip(1)


class Coupling(nn.Module):
    """Adds a function of the first half of the channels to the second half."""

    def __init__(self, channels: int, kernel: int, layers: int, cond: int) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels // 2, channels, 1)
        self.enc = WN(channels, kernel, layers, cond)
        self.post = nn.Conv1d(channels, channels // 2, 1)

    def forward(self, x: Tensor, mask: Tensor, g: Tensor | None, *, reverse: bool) -> Tensor:
        first, second = x.chunk(2, 1)
        shift = self.post(self.enc(self.pre(first) * mask, mask, g)) * mask
        return torch.cat([first, (second - shift if reverse else second + shift) * mask], 1)


class Flow(nn.Module):
    """Couplings and reversals, in turns."""

    def __init__(self, channels: int, kernel: int, layers: int, flows: int, cond: int) -> None:
        super().__init__()
        steps = [step for _ in range(flows) for step in (Coupling(channels, kernel, layers, cond), Flip())]
        self.flows = nn.ModuleList(steps)

    def forward(self, x: Tensor, mask: Tensor, g: Tensor | None, *, reverse: bool = False) -> Tensor:
        for flow in reversed(self.flows) if reverse else self.flows:
            x = flow(x, mask, g, reverse=reverse)
        return x


class DDSConv(nn.Module):
    """Dilated depth-wise convolutions with residual connections."""

    def __init__(self, channels: int, kernel: int, layers: int = 3) -> None:
        super().__init__()
        self.convs_sep = nn.ModuleList(
            nn.Conv1d(
                channels, channels, kernel, groups=channels, dilation=kernel**i, padding=(kernel - 1) * kernel**i // 2
            )
            for i in range(layers)
        )
        self.convs_1x1 = nn.ModuleList(nn.Conv1d(channels, channels, 1) for _ in range(layers))
        self.norms_1 = nn.ModuleList(LayerNorm(channels) for _ in range(layers))
        self.norms_2 = nn.ModuleList(LayerNorm(channels) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for separable, norm_1, pointwise, norm_2 in zip(
            self.convs_sep, self.norms_1, self.convs_1x1, self.norms_2, strict=True
        ):
            y = functional.gelu(norm_1(separable(x * mask)))
            x = x + functional.gelu(norm_2(pointwise(y)))
        return x * mask


class ElementwiseAffine(nn.Module):
    """A scale and a shift of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.m, self.logs = (nn.Parameter(torch.zeros(channels, 1)) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return (self.m + self.logs.exp() * x) * mask, (self.logs * mask).sum((1, 2))

    def inverse(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x - self.m) * torch.exp(-self.logs) * mask


def spline(
    x: Float[Tensor, "*shape"], knots: Float[Tensor, "*shape numbers"], bins: int, *, inverse: bool
) -> tuple[Tensor, Tensor]:
    """A rational-quadratic spline on [-5, 5] and the logarithm of its slope; `knots` are 3 * bins - 1 numbers."""
    bound, least = 5.0, 1e-3
    sizes = [least + (1 - least * bins) * torch.softmax(part, -1) for part in knots[..., : 2 * bins].split(bins, -1)]
    ends = [functional.pad(2 * bound * size.cumsum(-1)[..., :-1] - bound, (1, 0), value=-bound) for size in sizes]
    ends = [functional.pad(end, (0, 1), value=bound) for end in ends]
    slopes = functional.pad(least + functional.softplus(knots[..., 2 * bins :]), (1, 1), value=1.0)
    inside = (x >= -bound) & (x <= bound)
    given = torch.where(inside, x, 0.0)
    found = (torch.searchsorted(ends[1 if inverse else 0].contiguous(), given[..., None], right=True) - 1).clamp(
        0, bins - 1
    )
    x0, y0, slope0 = (one.gather(-1, found)[..., 0] for one in (*ends, slopes))
    x1, y1, slope1 = (one.gather(-1, found + 1)[..., 0] for one in (*ends, slopes))
    width, height = x1 - x0, y1 - y0
    mean = height / width
    bend = slope0 + slope1 - 2 * mean
    if inverse:
        rise = given - y0
        a, b, c = rise * bend + height * (mean - slope0), height * slope0 - rise * bend, -mean * rise
        place = 2 * c / (-b - torch.sqrt((b**2 - 4 * a * c).clamp_min(0)))
        y = place * width + x0
    else:
        place = (given - x0) / width
        both = place * (1 - place)
        y = y0 + height * (mean * place**2 + slope0 * both) / (mean + bend * both)
    both = place * (1 - place)
    slope = mean**2 * (slope1 * place**2 + 2 * mean * both + slope0 * (1 - place) ** 2) / (mean + bend * both) ** 2
    logs = torch.log(slope)
    return torch.where(inside, y, x), torch.where(inside, -logs if inverse else logs, 0.0)


class ConvFlow(nn.Module):
    """A spline of the second channel, whose knots depend on the first."""

    def __init__(self, channels: int, kernel: int, bins: int) -> None:
        super().__init__()
        self.pre, self.convs = nn.Conv1d(1, channels, 1), DDSConv(channels, kernel)
        self.proj = nn.Conv1d(channels, 3 * bins - 1, 1)
        self.bins, self.scale = bins, 1 / math.sqrt(channels)

    def forward(self, x: Tensor, mask: Tensor, cond: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, 1)
        knots = (self.proj(self.convs(self.pre(first) + cond, mask)) * mask).mT
        sizes, slopes = knots[..., : 2 * self.bins] * self.scale, knots[..., 2 * self.bins :]
        moved, logs = spline(second[:, 0], torch.cat([sizes, slopes], -1), self.bins, inverse=inverse)
        return torch.cat([first, moved[:, None]], 1) * mask, (logs[:, None] * mask).sum((1, 2))


class StochasticDurationPredictor(nn.Module):
    """A normalising flow of durations."""

    def __init__(self, inputs: int, channels: int, kernel: int, flows: int, bins: int, cond: int) -> None:
        super().__init__()
        self.pre, self.post_pre = nn.Conv1d(inputs, channels, 1), nn.Conv1d(1, channels, 1)
        self.convs, self.post_convs = DDSConv(channels, kernel), DDSConv(channels, kernel)
        self.proj, self.post_proj = nn.Conv1d(channels, channels, 1), nn.Conv1d(channels, channels, 1)
        for name in ("flows", "post_flows"):
            steps: list[nn.Module] = [ElementwiseAffine(2)]
            for _ in range(flows):
                steps += [ConvFlow(channels, kernel, bins), Flip()]
            setattr(self, name, nn.ModuleList(steps))
        if cond:
            self.cond = nn.Conv1d(cond, channels, 1)

    def condition(self, x: Tensor, mask: Tensor, g: Tensor | None) -> Tensor:
        x = self.pre(x.detach())
        x = x if g is None else x + self.cond(g.detach())
        return self.proj(self.convs(x, mask)) * mask

    def _through(self, name: str, z: Tensor, mask: Tensor, cond: Tensor) -> tuple[Tensor, Tensor]:
        affine, *steps = getattr(self, name)
        z, total = affine(z, mask)
        for step in steps:
            if isinstance(step, Flip):
                z = z.flip(1)
            else:
                z, change = step(z, mask, cond)
                total = total + change
        return z, total

    def loss(
        self, x: Tensor, mask: Tensor, durations: Tensor, noise: Tensor, g: Tensor | None
    ) -> Float[Tensor, " batch"]:
        """An upper bound of the negative log-likelihood of durations, summed over the tokens."""
        cond = self.condition(x, mask, g)
        posterior = self.post_proj(self.post_convs(self.post_pre(durations), mask)) * mask
        noise = noise * mask
        z, change = self._through("post_flows", noise, mask, cond + posterior)
        z_u, z_v = z.chunk(2, 1)
        change = change + ((functional.logsigmoid(z_u) + functional.logsigmoid(-z_u)) * mask).sum((1, 2))
        log_q = (-0.5 * (LOG_TWO_PI + noise**2) * mask).sum((1, 2)) - change
        z_0 = torch.log(((durations - torch.sigmoid(z_u)) * mask).clamp_min(1e-5)) * mask
        z, change = self._through("flows", torch.cat([z_0, z_v], 1), mask, cond)
        nll = (0.5 * (LOG_TWO_PI + z**2) * mask).sum((1, 2)) - change + z_0.sum((1, 2))
        return nll + log_q

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor, g: Tensor | None) -> Float[Tensor, "batch 1 time"]:
        cond = self.condition(x, mask, g)
        affine, _, *steps = cast(Any, self.flows)
        z = noise
        for step in reversed(steps):
            z = z.flip(1) if isinstance(step, Flip) else step(z, mask, cond, inverse=True)[0]
        return affine.inverse(z, mask)[:, :1]


class DurationPredictor(nn.Module):
    """Convolutions that predict the logarithms of durations."""

    def __init__(self, inputs: int, channels: int, kernel: int, cond: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(inputs, channels, kernel, padding=kernel // 2)
        self.conv_2 = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        self.norm_1, self.norm_2 = LayerNorm(channels), LayerNorm(channels)
        self.proj = nn.Conv1d(channels, 1, 1)
        if cond:
            self.cond = nn.Conv1d(cond, inputs, 1)

    def forward(self, x: Tensor, mask: Tensor, noise: Tensor | None, g: Tensor | None) -> Float[Tensor, "batch 1 time"]:
        x = x.detach() if g is None else x.detach() + self.cond(g.detach())
        x = self.norm_1(torch.relu(self.conv_1(x * mask)))
        x = self.norm_2(torch.relu(self.conv_2(x * mask)))
        return self.proj(x * mask) * mask


class VITS(nn.Module):
    """The whole network. `decoder` are arguments of the HiFi-GAN `Generator`."""

    def __init__(
        self,
        *,
        symbols: int = 178,
        bins: int = 513,
        channels: int = 192,
        hidden: int = 768,
        heads: int = 2,
        layers: int = 6,
        kernel: int = 3,
        window: int = 4,
        posterior_layers: int = 16,
        flow_layers: int = 4,
        flows: int = 4,
        stochastic: bool = True,
        duration_channels: int = 192,
        duration_flows: int = 4,
        spline_bins: int = 10,
        speakers: int = 0,
        cond: int = 0,
        decoder: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.enc_p = TextEncoder(symbols, channels, hidden, heads, layers, kernel, window)
        self.dec = Generator(
            in_channels=channels,
            cond_channels=cond,
            cond_name="cond",
            conv_pre_weight_norm=False,
            conv_post_weight_norm=False,
            conv_post_bias=False,
            **(decoder or {}),
        )
        self.enc_q = PosteriorEncoder(bins, channels, 5, posterior_layers, cond)
        self.flow = Flow(channels, 5, flow_layers, flows, cond)
        if stochastic:
            sizes = channels, duration_channels, 3, duration_flows, spline_bins, cond
            self.dp: nn.Module = StochasticDurationPredictor(*sizes)
        else:
            self.dp = DurationPredictor(channels, duration_channels, 3, cond)
        if speakers:
            self.emb_g = nn.Embedding(speakers, cond)

    def condition(self, speaker: Int[Tensor, " batch"] | None) -> Float[Tensor, "batch cond 1"] | None:
        """The speaker vectors of ids."""
        return None if speaker is None else self.emb_g(speaker)[..., None]

    def infer(
        self,
        tokens: Int[Tensor, "batch tokens"],
        lengths: Int[Tensor, " batch"],
        duration_noise: Float[Tensor, "batch 2 tokens"],
        noise: Float[Tensor, "batch channels frames"],
        speaker: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch 1 samples"], Int[Tensor, "batch tokens"]]:
        """The waveform of at most as many frames as `noise` has, and the durations; `noise` may have too many."""
        g = self.condition(speaker)
        mask = _mask(lengths, tokens.shape[1])
        x, mean, log_scale = self.enc_p(tokens, mask)
        logs = self.dp(x, mask, duration_noise, g)
        durations = torch.ceil(torch.exp(logs) * mask)[:, 0].long()
        ends = durations.cumsum(1)
        frames = int(min(max(int(ends[:, -1].max()), 1), noise.shape[2]))
        token = (ends[:, None] <= torch.arange(frames, device=tokens.device)[None, :, None]).sum(2)
        token = token.clamp_max(tokens.shape[1] - 1)[:, None].expand(-1, mean.shape[1], -1)
        frame_mask = _mask(ends[:, -1].clamp_min(1), frames)
        z_p = (mean.gather(2, token) + noise[..., :frames] * log_scale.gather(2, token).exp()) * frame_mask
        z = self.flow(z_p, frame_mask, g, reverse=True)
        return self.dec(z * frame_mask, g), durations

    def encode(
        self,
        spectrogram: Float[Tensor, "batch bins frames"],
        lengths: Int[Tensor, " batch"],
        noise: Float[Tensor, "batch channels frames"],
        speaker: Int[Tensor, " batch"] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Latents sampled from the posterior, and the same after the flow."""
        g, mask = self.condition(speaker), _mask(lengths, spectrogram.shape[2])
        mean, log_scale = self.enc_q(spectrogram, mask, g)
        z = (mean + noise * log_scale.exp()) * mask
        return z, self.flow(z, mask, g)

    def convert(self, spectrogram: Tensor, lengths: Tensor, noise: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """The waveform of a recording of speaker `source` in the voice of `target`."""
        mask, g = _mask(lengths, spectrogram.shape[2]), self.condition(target)
        _, z_p = self.encode(spectrogram, lengths, noise, source)
        return self.dec(self.flow(z_p, mask, g, reverse=True) * mask, g)


def _mask(lengths: Int[Tensor, " batch"], time: int) -> Float[Tensor, "batch 1 time"]:
    valid: Bool[Tensor, "batch time"] = torch.arange(time, device=lengths.device)[None] < lengths[:, None]
    return valid[:, None].float()
