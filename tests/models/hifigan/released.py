"""Small weight files in the layouts that other implementations write, made by torch."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.benchmarks.torch_hifigan import Generator, fold_weight_norm

SMALL = {
    "resblock": "2",
    "upsample_rates": (8, 8, 4),
    "upsample_kernel_sizes": (16, 16, 8),
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3, 5, 7),
    "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12)),
}
"""V3 at a sixteenth of its width."""
CONDITIONED = {
    **SMALL,
    "in_channels": 12,
    "cond_channels": 5,
    "conv_pre_weight_norm": False,
    "conv_post_weight_norm": False,
    "conv_post_bias": False,
}
"""A generator of VITS."""
CONFIG = {
    **{name: value for name, value in SMALL.items()},
    "num_mels": 80,
    "n_fft": 1024,
    "hop_size": 256,
    "win_size": 1024,
    "sampling_rate": 22050,
    "fmin": 0,
    "fmax": 8000,
    "fmax_for_loss": None,
    "segment_size": 8192,
    "lr_decay": 0.99,
}
"""The same sizes as a `config.json` of jik876."""
COQUI_AUDIO = {
    "fft_size": 1024,
    "win_length": 1024,
    "hop_length": 256,
    "sample_rate": 22050,
    "num_mels": 80,
    "mel_fmin": 50.0,
    "mel_fmax": 7600.0,
    "spec_gain": 20,
    "ref_level_db": 20,
    "min_level_db": -100,
    "signal_norm": True,
    "symmetric_norm": True,
    "max_norm": 4.0,
    "clip_norm": True,
    "preemphasis": 0.0,
    "log_func": "np.log10",
    "stats_path": None,
}
COQUI_CONFIG = {
    "model": "hifigan",
    "generator_model": "hifigan_generator",
    "generator_model_params": {
        "resblock_type": "2",
        "upsample_factors": [8, 8, 4],
        "upsample_kernel_sizes": [16, 16, 8],
        "upsample_initial_channel": 16,
        "resblock_kernel_sizes": [3, 5, 7],
        "resblock_dilation_sizes": [[1, 2, 9], [2, 6, 9], [3, 12, 9]],
    },
    "audio": COQUI_AUDIO,
    "seq_len": 8192,
}


def generator(seed: int = 0, **config: Any) -> Generator:
    """The reference generator with weights that give audible output."""
    torch.manual_seed(seed)
    return Generator(**{**SMALL, **config})


def state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of its state dict."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def spelt(tensors: Mapping[str, torch.Tensor], norms: str) -> dict[str, torch.Tensor]:
    """A state dict in another spelling of weight norm: `hooks`, `parametrizations`."""
    if norms == "hooks":
        return dict(tensors)
    new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {re.sub("weight_[gv]$", lambda found: new[found[0]], name): tensor for name, tensor in tensors.items()}


def folded(model: Generator) -> dict[str, torch.Tensor]:
    """The state dict after `remove_weight_norm`."""
    return state(fold_weight_norm(model))


def write(path: Path, content: Any, config: Mapping[str, Any] | None = None, *, legacy: bool = False) -> Path:
    """`content` saved by torch at `path`, with `config` as `config.json` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    if config is not None:
        (path.parent / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def under(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors with `prefix` before their names."""
    return {prefix + name: tensor for name, tensor in tensors.items()}
