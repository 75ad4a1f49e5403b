"""XTTS in torch: the reference of the benchmarks.

Written from the descriptions of coqui-ai/TTS; `tests/experiments/test_xtts_benchmark.py` compares it with jaxvoice. The
names of tensors are those of the released checkpoints, with the older spelling of weight norm.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.torch_hifigan import Generator


class Conv1D(nn.Module):
    """A linear map with the weight `(in, out)`, as in GPT-2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "batch time in"]) -> Float[Tensor, "batch time out"]:
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight).unflatten(0, x.shape[:-1])


class Attention(nn.Module):
    """Causal attention with a cache of keys and values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj, self.heads = Conv1D(channels, 3 * channels), Conv1D(channels, channels), heads

    def forward(
        self, x: Float[Tensor, "batch time channels"], cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Float[Tensor, "batch time channels"], tuple[Tensor, Tensor]]:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, dim=-1)
        )
        if cache is not None:
            key, value = torch.cat([cache[0], key], dim=2), torch.cat([cache[1], value], dim=2)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        return self.c_proj(attended.transpose(1, 2).flatten(-2)), (key, value)


class MLP(nn.Module):
    """Two linear maps with GELU between them, computed with tanh."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(channels, 4 * channels), Conv1D(4 * channels, channels)

    def forward(self, x: Float[Tensor, "batch time channels"]) -> Float[Tensor, "batch time channels"]:
        return self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """A layer of GPT-2."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(channels), Attention(channels, heads)
        self.ln_2, self.mlp = nn.LayerNorm(channels), MLP(channels)

    def forward(self, x: Tensor, cache: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, new_cache = self.attn(self.ln_1(x), cache)
        x = x + y
        return x + self.mlp(self.ln_2(x)), new_cache


class Core(nn.Module):
    """The layers of GPT-2 and the norm after them."""

    def __init__(self, layers: int, channels: int, heads: int) -> None:
        super().__init__()
        self.h = nn.ModuleList(Block(channels, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(channels)

    def forward(self, x: Tensor, caches: list[tuple[Tensor, Tensor]] | None) -> tuple[Tensor, list[Any]]:
        new = []
        for number, block in enumerate(self.h):
            x, cache = block(x, None if caches is None else caches[number])
            new.append(cache)
        return self.ln_f(x), new


class Positions(nn.Module):
    """A table of vectors by position."""

    def __init__(self, positions: int, channels: int) -> None:
        super().__init__()
        self.emb = nn.Embedding(positions, channels)


class LanguageModel(nn.Module):
    """The language model without the networks for references; `config` is a `GPTConfig` of jaxvoice."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        channels = config.channels
        self.config = config
        self.text_embedding = nn.Embedding(config.text_ids, channels)
        self.mel_embedding = nn.Embedding(config.audio_ids, channels)
        self.text_pos_embedding = Positions(config.max_text + 2, channels)
        self.mel_pos_embedding = Positions(config.max_audio + 3, channels)
        self.gpt = Core(config.layers, channels, config.heads)
        self.final_norm = nn.LayerNorm(channels)
        self.text_head = nn.Linear(channels, config.text_ids)
        self.mel_head = nn.Linear(channels, config.audio_ids)

    @torch.inference_mode()
    def generate(
        self, conditioning: Float[Tensor, "1 vectors channels"], text: Int[Tensor, "1 tokens"], count: int
    ) -> tuple[Int[Tensor, " codes"], Float[Tensor, "1 codes channels"]]:
        """The `count` most likely codes one after the other, the stop excluded, and their vectors."""
        prefix = torch.cat(
            [conditioning, self.text_embedding(text) + self.text_pos_embedding.emb.weight[: text.shape[1]]], dim=1
        )
        code = torch.tensor([[self.config.start_audio]])
        codes, latents, caches, x = [], [], None, prefix
        for number in range(count):
            embedded = self.mel_embedding(code) + self.mel_pos_embedding.emb.weight[number]
            hidden, caches = self.gpt(torch.cat([x, embedded], dim=1) if number == 0 else embedded, caches)
            latent = self.final_norm(hidden[:, -1:])
            logits = self.mel_head(latent)
            logits[..., self.config.stop_audio] = -torch.inf
            code = logits.argmax(-1)
            codes.append(code[0])
            latents.append(latent)
        return torch.cat(codes), torch.cat(latents, dim=1)

    @torch.inference_mode()
    def second_pass(
        self,
        conditioning: Float[Tensor, "1 vectors channels"],
        text: Int[Tensor, "1 tokens"],
        codes: Int[Tensor, " codes"],
    ) -> Float[Tensor, "1 codes channels"]:
        """The vectors of `codes` from another pass over the whole sequence, as the release computes them."""
        inputs = torch.cat([torch.tensor([self.config.start_audio]), codes[:-1]])[None]
        text_part = self.text_embedding(text) + self.text_pos_embedding.emb.weight[: text.shape[1]]
        audio = self.mel_embedding(inputs) + self.mel_pos_embedding.emb.weight[: inputs.shape[1]]
        hidden, _ = self.gpt(torch.cat([conditioning, text_part, audio], dim=1), None)
        return self.final_norm(hidden[:, -inputs.shape[1] :])


class Decoder(nn.Module):
    """Vectors of the language model to audio; `arguments` are those of `torch_hifigan.Generator`."""

    def __init__(self, arguments: dict[str, Any], rate: float) -> None:
        super().__init__()
        self.waveform_decoder, self.rate = Generator(**arguments), rate

    @torch.inference_mode()
    def forward(
        self, latents: Float[Tensor, "1 codes channels"], speaker: Float[Tensor, "1 dim 1"]
    ) -> Float[Tensor, "1 1 samples"]:
        x = functional.interpolate(latents.mT, scale_factor=4.0, mode="linear")
        return self.waveform_decoder(functional.interpolate(x, scale_factor=self.rate, mode="linear"), speaker)


class ResidualBlock(nn.Module):
    """Three convolutions with ReLU between them, and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = [nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2)]
        self.net = nn.Sequential(wide[0], nn.ReLU(), wide[1], nn.ReLU(), nn.Conv1d(channels, channels, 1))

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        return x + self.net(x)


class Upsampled(nn.Module):
    """Each position twice, and a convolution of the result."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch in time"]) -> Float[Tensor, "batch out 2*time"]:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class CodeBook(nn.Module):
    """The vectors of the codes and their moving averages."""

    def __init__(self, channels: int, codes: int) -> None:
        super().__init__()
        self.embed: Tensor
        embed = torch.randn(channels, codes)
        self.register_buffer("embed", embed)
        self.register_buffer("cluster_size", torch.zeros(codes))
        self.register_buffer("embed_avg", embed.clone())


class DVAE(nn.Module):
    """The autoencoder of mel spectrograms, by default at the sizes of the release."""

    def __init__(self, codes: int = 1024, *, hidden: int = 512, code_channels: int = 512) -> None:
        super().__init__()
        inner = 2 * hidden
        strided = [nn.Conv1d(a, b, 3, stride=2, padding=1) for a, b in ((80, hidden), (hidden, inner))]
        self.encoder = nn.Sequential(
            *(nn.Sequential(conv, nn.ReLU()) for conv in strided),
            *(ResidualBlock(inner) for _ in range(3)),
            nn.Conv1d(inner, code_channels, 1),
        )
        self.codebook = CodeBook(code_channels, codes)
        self.decoder = nn.Sequential(
            nn.Conv1d(code_channels, inner, 1),
            *(ResidualBlock(inner) for _ in range(3)),
            *(nn.Sequential(Upsampled(a, b), nn.ReLU()) for a, b in ((inner, inner), (inner, hidden))),
            nn.Conv1d(hidden, 80, 1),
        )

    @torch.inference_mode()
    def encode(self, mel: Float[Tensor, "1 80 frames"]) -> Int[Tensor, "1 codes"]:
        """The codes of `mel`."""
        z, embed = self.encoder(mel).mT, self.codebook.embed
        distances = z.square().sum(-1, keepdim=True) - 2 * z @ embed + embed.square().sum(0)
        return distances.argmin(-1)

    @torch.inference_mode()
    def decode(self, codes: Int[Tensor, "1 codes"]) -> Float[Tensor, "1 80 frames"]:
        """The mel spectrogram of `codes`."""
        return self.decoder(self.codebook.embed[:, codes].movedim(0, 1))
