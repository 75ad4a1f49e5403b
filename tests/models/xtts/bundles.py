"""Small checkpoints in coqui's layouts of XTTS, written by torch."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaxvoice.models.speaker_encoder.config import SpeakerEncoderConfig
from jaxvoice.models.xtts import XTTSConfig
from jaxvoice.models.xtts.weights import ENCODER, count_dtypes, xtts_shapes
from jaxvoice.models.xtts_dvae.config import DVAEConfig
from jaxvoice.models.xtts_dvae.weights import dvae_shapes
from tests.models.xtts.small import SMALL, vocabulary
from tests.random_networks import random_arrays

State = dict[str, torch.Tensor]
STATISTICS = np.linspace(2, 4, 10, dtype=np.float32)


def encoder_buffers(config: SpeakerEncoderConfig) -> dict[str, np.ndarray]:
    """The front end that coqui stores in a speaker encoder."""
    mel: Any = config.mel
    return {
        "torch_spec.0.filter": np.array([[[-mel.preemphasis, 1]]], np.float32),
        "torch_spec.1.spectrogram.window": mel.window_values(),
        "torch_spec.1.mel_scale.fb": np.ascontiguousarray(mel.filterbank().T),
    }


def released_arrays(config: XTTSConfig = SMALL, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of an XTTS by our names, with the types of the release."""
    shapes = xtts_shapes(config)
    arrays = random_arrays(shapes, seed) | {"mel_stats": STATISTICS}
    arrays |= {ENCODER + name: array for name, array in encoder_buffers(config.speaker_encoder).items()}
    return arrays | {name: np.asarray(7, np.int64) for name in count_dtypes(shapes)}


def released_state(config: XTTSConfig = SMALL, seed: int = 0, *, spelling: str = "parametrizations") -> State:
    """The state dict of an XTTS, with weight norm in the form of `torch.nn.utils.parametrizations` or the older one."""
    arrays = released_arrays(config, seed)
    if spelling == "parametrizations":
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            arrays = {
                name.replace(f".{old}", f".parametrizations.weight.{new}"): array for name, array in arrays.items()
            }
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def dvae_state(config: DVAEConfig = SMALL.dvae, seed: int = 1) -> State:
    """The state dict of `dvae.pth`."""
    return {name: torch.from_numpy(array) for name, array in random_arrays(dvae_shapes(config), seed).items()}


def coqui_settings(config: XTTSConfig = SMALL, **changes: Any) -> dict[str, Any]:
    """A `config.json` of coqui for a small XTTS."""
    args = {
        "gpt_layers": config.gpt.layers,
        "gpt_n_model_channels": config.gpt.channels,
        "gpt_n_heads": config.gpt.heads,
        "gpt_number_text_tokens": config.gpt.text_ids,
        "gpt_start_text_token": None,
        "gpt_stop_text_token": None,
        "gpt_num_audio_tokens": config.gpt.audio_ids,
        "gpt_max_text_tokens": config.gpt.max_text,
        "gpt_max_audio_tokens": config.gpt.max_audio,
        "gpt_max_prompt_tokens": config.gpt.max_prompt,
        "gpt_code_stride_len": 1024,
        "gpt_use_perceiver_resampler": bool(config.gpt.conditioning.latents),
        "decoder_input_dim": config.gpt.channels,
        "d_vector_dim": config.decoder.cond_channels,
        "input_sample_rate": 22050,
        "output_sample_rate": 24000,
        **changes,
    }
    return {
        "model": "xtts",
        "model_args": args,
        "audio": {"sample_rate": 22050, "output_sample_rate": 24000},
        "languages": list(config.languages),
        "temperature": 0.65,
        "top_k": 40,
        "top_p": 0.8,
        "repetition_penalty": 2.0,
        "length_penalty": 1.0,
        "gpt_cond_len": 12,
        "gpt_cond_chunk_len": 6,
        "max_ref_len": 10,
    }


def pickled_config(settings: dict[str, Any]) -> Any:
    """Instances of classes with the names of coqui's, which do not exist where the file is read."""
    module: Any = types.ModuleType("TTS.tts.configs.xtts_config")
    for name in ("TTS", "TTS.tts", "TTS.tts.configs"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules[module.__name__] = module

    def instance(name: str, values: dict[str, Any]) -> Any:
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
        made = getattr(module, name)()
        vars(made).update(values)
        return made

    parts = {"model_args": instance("XttsArgs", settings["model_args"]), "audio": instance("XttsAudio", {})}
    return instance("XttsConfig", settings | parts)


def forget_pickled_classes() -> None:
    """Remove the modules of `pickled_config`."""
    for name in [name for name in sys.modules if name == "TTS" or name.startswith("TTS.")]:
        del sys.modules[name]


def speakers(config: XTTSConfig = SMALL) -> dict[str, State]:
    """The content of `speakers_xtts.pth`: two voices, of which one has its tensors under other keys."""
    random, dim = np.random.default_rng(3), config.speaker_encoder.dim
    shapes = (1, config.gpt.conditioning.latents or 5, config.gpt.channels), (1, dim, 1)
    first, second = ([torch.from_numpy(random.normal(size=s).astype(np.float32)) for s in shapes] for _ in range(2))
    keys = ("gpt_cond_latent", "speaker_embedding")
    return {"Ana. B": dict(zip(keys, first, strict=True)), "Zoë": dict(zip(("a", "b"), second, strict=True))}


def write_bundle(
    folder: Path, state: State | None = None, config: XTTSConfig = SMALL, *, settings: dict[str, Any] | None = None
) -> Path:
    """The files of a release in `folder`."""
    folder.mkdir(exist_ok=True)
    settings = coqui_settings(config) if settings is None else settings
    try:
        content = {"model": released_state(config) if state is None else state, "config": pickled_config(settings)}
        torch.save(content, folder / "model.pth")
    finally:
        forget_pickled_classes()
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    text = json.dumps(vocabulary(config.gpt.text_ids, config.gpt.start_text))
    (folder / "vocab.json").write_text(text, encoding="utf-8")
    torch.save(dvae_state(config.dvae), folder / "dvae.pth")
    torch.save(torch.from_numpy(STATISTICS), folder / "mel_stats.pth")
    torch.save(speakers(config), folder / "speakers_xtts.pth")
    return folder


def training_state(config: XTTSConfig = SMALL) -> State:
    """The state dict of a checkpoint of coqui's trainer: prefixed names, and the DVAE, front ends and leftovers."""
    state = {f"xtts.{name}": tensor for name, tensor in released_state(config, spelling="hooks").items()}
    state |= {f"dvae.{name}": tensor for name, tensor in dvae_state(config.dvae).items()}
    for name in ("style_encoder", "dvae"):
        state[f"torch_mel_spectrogram_{name}.mel_stft.spectrogram.window"] = torch.ones(16)
    one = torch.ones(2, 2)
    leftovers = ("gpt_inference.transformer.h.0.ln_1.weight", "gpt.wte.weight", "prompt_embedding.weight")
    state |= {f"xtts.gpt.{name}": one for name in (*leftovers, "prompt_pos_embedding.emb.weight")}
    return state | {"dvae.discrete_loss.accumulator": one}
