"""TorchScript archives with the structure of the released archive of HiFi-VC, traced from networks in torch.

The names of the speaker encoder are those of the release. Other names are unknown, so the tests vary them.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks import torch_hifivc as reference
from jaxvoice.models.hifivc import HiFiVCConfig
from tests.torchscript import script_models


class Subsampling(nn.Module):
    def __init__(self, mels: int, channels: int, dim: int) -> None:
        super().__init__()
        first, second = nn.Conv2d(1, channels, 3, 2, 1), nn.Conv2d(channels, channels, 3, 2, 1)
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.out = nn.Linear(channels * -(-mels // 4), dim)

    def forward(self, features: Tensor) -> Tensor:
        x = self.conv(features.transpose(1, 2).unsqueeze(1))
        batch, channels, length, bands = x.size()
        return self.out(x.transpose(1, 2).reshape(batch, length, channels * bands))


class ContentEncoder(script_models.ConformerEncoder):
    """A Conformer with the names of NeMo, and the buffers that an archive contains."""

    def __init__(self, config: HiFiVCConfig) -> None:
        content = config.content
        super().__init__(8, content.dim, content.heads, 1, longest=200)
        table, positions = self.get_buffer("pe"), self.get_buffer("seq_range")
        nn.Module.__init__(self)
        self.pre_encode = Subsampling(content.mel.num_mels, content.subsampling_channels, content.dim)
        self.scale = content.dim**0.5 if content.xscaling else 1.0
        self.layers = nn.ModuleList(
            script_models.ConformerLayer(content.dim, content.heads) for _ in range(content.layers)
        )
        for layer in self.layers:
            kernel, dim = content.kernel_size, content.dim
            module = layer.get_submodule("conv")
            module.depthwise_conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)
        self.pos_enc = nn.Module()
        self.pos_enc.register_buffer("pe", table, persistent=False)
        self.register_buffer("seq_range", positions, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        x = self.pre_encode(features) * self.scale
        batch, length = x.size(0), x.size(1)
        table, numbers = self.get_buffer("pos_enc.pe"), self.get_buffer("seq_range")
        middle = table.size(1) // 2 + 1
        positions = table[:, middle - length : middle + length - 1]
        lengths = torch.full((batch,), length, dtype=torch.int64, device=x.device)
        valid = numbers[:length].expand(batch, -1) < lengths.unsqueeze(-1)
        both = valid.unsqueeze(1).repeat([1, length, 1])
        mask = ~torch.logical_and(both, both.transpose(1, 2))
        for layer in self.layers:
            x = layer(x, mask, positions, ~valid)
        return x.transpose(1, 2)


class FrontEnd(script_models.MelFrontEnd):
    """The front end of NeMo 1.7 with 80 bands."""

    def __init__(self) -> None:
        from jaxvoice.dsp.mel_config import NemoMelConfig, mel_filterbank

        super().__init__()
        self.fb = torch.from_numpy(mel_filterbank(NemoMelConfig().spectrum).astype("float32").copy()).unsqueeze(0)


class VoiceConversion(nn.Module):
    """The child `_voice_conversion` of the released archive."""

    def __init__(self, config: HiFiVCConfig) -> None:
        super().__init__()
        self.speaker_encoder = reference.SpeakerEncoder(config.speaker)
        self.preprocessor = torch.jit.script(FrontEnd())
        self.asr = ContentEncoder(config)
        self.f0_encoder = None if config.pitch_encoder is None else reference.PitchEncoder(config.pitch_encoder)
        size = config.speaker.size
        self.generator = reference.Decoder(config.decoder, config.content.dim, config.pitch_channels, size)

    def forward(self, audio: Tensor, mel: Tensor, pitch: Tensor) -> Tensor:
        content = self.asr(self.preprocessor(audio))
        mean, _ = self.speaker_encoder(mel)
        code = None
        if self.f0_encoder is not None:
            code = self.f0_encoder(pitch)[:, :, : content.size(2)]
        return self.generator(content, code, mean)


class Model(nn.Module):
    """The top of the archive: `(wav_source, mel_ref, pitch)` to a waveform."""

    def __init__(self, config: HiFiVCConfig) -> None:
        super().__init__()
        self._voice_conversion = VoiceConversion(config)

    def forward(self, wav_source: Tensor, mel_ref: Tensor, pitch: Tensor) -> Tensor:
        return self._voice_conversion(wav_source, mel_ref, pitch).squeeze(1)


def make(config: HiFiVCConfig, seed: int = 0) -> Model:
    """The model with random weights, also in norms and their running statistics."""
    torch.manual_seed(seed)
    model = Model(config).eval()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith(("running_mean", "weight_g", "bias")):
                tensor.add_(torch.rand(tensor.shape) * 0.2)
            elif name.endswith("running_var"):
                tensor.add_(torch.rand(tensor.shape))
    return model


def inputs(frames: int = 10, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """`wav_source`, `mel_ref` and `pitch` for `frames` content frames."""
    generator = torch.Generator().manual_seed(seed)
    audio = 0.1 * torch.randn(1, 640 * frames - 100, generator=generator)
    pitch = torch.stack([5 + 0.2 * torch.randn(4 * frames, generator=generator), torch.ones(4 * frames)])[None]
    return audio, torch.randn(1, 80, 60, generator=generator) - 4, pitch


def write(path: Path, config: HiFiVCConfig, model: Any = None) -> Path:
    """Trace the model and write the archive."""
    with torch.no_grad():
        traced = torch.jit.trace(make(config) if model is None else model, inputs(), check_trace=False)
    torch.jit.save(traced, path)
    return path
