"""What configuration files of other implementations say about a HiFi-GAN, in our terms."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jaxvoice.config import from_dict
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import HiFiGANConfig, LatentConfig

_COMMENTS = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_SIZES = {
    "upsample_kernel_sizes": "upsample_kernel_sizes",
    "upsample_initial_channel": "upsample_initial_channel",
    "resblock_kernel_sizes": "resblock_kernel_sizes",
    "resblock_dilation_sizes": "resblock_dilation_sizes",
}


@dataclass(frozen=True)
class Claims:
    """What a configuration file settles."""

    kind: str
    """Whose configuration it is."""
    generator: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `GeneratorConfig`."""
    mel: MelConfig | LatentConfig | None = None
    """What the generator reads, where the file tells."""
    segment_size: int | None = None
    """Samples of a training crop."""
    assumed: tuple[str, ...] = ()
    """What had to be assumed beside."""
    decay: float | None = None
    """Factor of the learning rates after each epoch."""


def read_settings(path: Path) -> dict[str, Any]:
    """The table in the JSON file at `path`; comments, as older coqui files have them, are allowed.

    **Raises:** `ConfigError` if there is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(_COMMENTS.sub(lambda found: found[1] or " ", text))
    except OSError as failure:
        raise ConfigError(f"{path} cannot be read ({failure.strerror}); check the path.") from failure
    except (ValueError, RecursionError) as failure:
        raise ConfigError(f"{path} is not valid JSON ({failure}); restore it or give another --config.") from failure
    if not isinstance(table, dict):
        raise ConfigError(f"{path} should hold a table of settings, got {type(table).__name__}.")
    return table


def claims_of(table: Mapping[str, Any], where: str) -> Claims:
    """What `table`, the content of the configuration `where`, settles.

    **Raises:** `ConfigError` if it is none of the kinds known here, lacks what it should have, or says what a mel
    contract cannot express.
    """
    read = _reader_of(table)
    if read is None:
        raise ConfigError(
            f"{where} is no configuration of a HiFi-GAN that is known here: jik876's has upsample_rates and "
            "sampling_rate, coqui's generator_model_params and audio, or model_args; give the right one with --config."
        )
    try:
        return read(table)
    except KeyError as failure:
        raise ConfigError(f"{where} lacks {failure}; restore it or give another --config.") from failure
    except (TypeError, ValueError) as failure:
        if isinstance(failure, ConfigError):
            raise ConfigError(f"{where}: {failure}") from failure
        raise ConfigError(f"{where} cannot be used ({failure}); restore it or give another --config.") from failure


def is_known(table: Any) -> bool:
    """Whether `claims_of` knows this kind of configuration."""
    return isinstance(table, Mapping) and _reader_of(table) is not None


def _reader_of(table: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Claims] | None:
    if table.get("family") == "hifigan":
        return _ours
    if "generator_model_params" in table:
        return _coqui_vocoder
    if isinstance(table.get("model_args"), Mapping):
        return _coqui_model
    if "upsample_rates" in table and "sampling_rate" in table:
        return _released
    if isinstance(table.get("model"), Mapping) and isinstance(table.get("data"), Mapping):
        return _vits
    return None


def _ours(table: Mapping[str, Any]) -> Claims:
    config = from_dict(HiFiGANConfig, table["config"])
    return Claims("jaxvoice", dict(vars(config.generator)), config.mel, config.segment_size)


def _released(table: Mapping[str, Any]) -> Claims:
    """jik876/hifi-gan `config_v1.json`."""
    generator = {ours: _tuples(table[theirs]) for ours, theirs in _SIZES.items()}
    generator |= {"upsample_rates": _tuples(table["upsample_rates"]), "resblock": str(table["resblock"])}
    generator["num_mels"] = table.get("num_mels", 80)
    mel = MelConfig(
        sample_rate=table["sampling_rate"],
        n_fft=table["n_fft"],
        hop_length=table["hop_size"],
        win_length=table["win_size"],
        num_mels=table.get("num_mels", 80),
        fmin=float(table.get("fmin") or 0),
        fmax=None if table.get("fmax") is None else float(table["fmax"]),
    )
    assumed = ()
    if table.get("fmax_for_loss") is not None:
        assumed = (f"training compares mels up to Nyquist, not to fmax_for_loss {table['fmax_for_loss']}",)
    return Claims("jik876", _trimmed(generator), mel, table.get("segment_size"), assumed, table.get("lr_decay"))


def _coqui_vocoder(table: Mapping[str, Any]) -> Claims:
    """coqui-ai/TTS `TTS/vocoder/configs/hifigan_config.py`."""
    model, params = table.get("generator_model", "hifigan_generator"), table["generator_model_params"]
    if model != "hifigan_generator":
        raise ConfigError(f"its generator_model is {model!r}, not 'hifigan_generator': another family of vocoders.")
    generator = {ours: _tuples(params[theirs]) for ours, theirs in _SIZES.items() if theirs in params}
    generator |= {"upsample_rates": _tuples(params["upsample_factors"]), "resblock": str(params["resblock_type"])}
    for name in ("cond_channels", "conv_pre_weight_norm", "conv_post_weight_norm", "conv_post_bias"):
        if name in params:
            generator[name] = params[name]
    mel, assumed = coqui_mel(table["audio"])
    generator["num_mels"] = mel.num_mels
    decay = (table.get("lr_scheduler_gen_params") or {}).get("gamma")
    return Claims("coqui", _trimmed(generator), mel, table.get("seq_len"), assumed, decay)


def _coqui_model(table: Mapping[str, Any]) -> Claims:
    """coqui-ai/TTS `vits_config.py` and `xtts_config.py`: the generator is a part of the model."""
    args = table["model_args"]
    if table.get("model") == "xtts" or "decoder_input_dim" in args:
        generator = {"num_mels": args.get("decoder_input_dim"), "cond_channels": args.get("d_vector_dim")}
        generator["cond_in_each_stage"] = args.get("cond_d_vector_in_each_upsampling_layer")
        rate = args.get("output_sample_rate", 24000)
        latents = LatentConfig(rate, args.get("output_hop_length", 256), args.get("decoder_input_dim", 1024))
        return Claims("XTTS", {k: v for k, v in generator.items() if v is not None}, latents)
    generator = {f"{name}": args.get(f"{name}_decoder") for name in (*_SIZES, "upsample_rates")}
    generator |= {"resblock": args.get("resblock_type_decoder"), "num_mels": args.get("hidden_channels")}
    generator = {name: _tuples(value) for name, value in generator.items() if value is not None}
    rates = generator.get("upsample_rates")
    hop = math.prod(rates) if rates else table["audio"]["hop_length"]
    latents = LatentConfig(table["audio"]["sample_rate"], hop, args.get("hidden_channels", 192))
    return Claims("VITS", _trimmed(generator), latents)


def _vits(table: Mapping[str, Any]) -> Claims:
    """jaywalnut310/vits `configs/ljs_base.json`."""
    model, data = table["model"], table["data"]
    generator = {ours: _tuples(model[theirs]) for ours, theirs in _SIZES.items()}
    generator |= {"upsample_rates": _tuples(model["upsample_rates"]), "resblock": str(model["resblock"])}
    generator["num_mels"] = model["inter_channels"]
    if model.get("gin_channels"):
        generator["cond_channels"] = model["gin_channels"]
    latents = LatentConfig(data["sampling_rate"], math.prod(model["upsample_rates"]), model["inter_channels"])
    return Claims("VITS", _trimmed(generator), latents)


def coqui_mel(audio: Mapping[str, Any]) -> tuple[MelConfig, tuple[str, ...]]:
    """The mel contract that coqui's `audio` settings mean, and what had to be assumed.

    A gain times the logarithm of mel amplitudes, minus `ref_level_db`, brought from [min_level_db, 0] to [0, max_norm]
    or, if symmetric, to [-max_norm, max_norm], and clipped there. coqui-ai/TTS `TTS/utils/audio/processor.py`.

    **Raises:** `ConfigError` for mean-variance normalisation, amplitudes without a logarithm, another padding.
    """
    if audio.get("stats_path") and audio.get("signal_norm", True):
        raise ConfigError(
            f"the mels are normalised with means and variances from {audio['stats_path']!r}, which a mel contract "
            "cannot hold; there is no way around it but to normalise the mels yourself and import with a --config "
            "whose signal_norm is false."
        )
    if not audio.get("do_amp_to_db_mel", True):
        raise ConfigError("do_amp_to_db_mel is false: mels without a logarithm are not supported.")
    if audio.get("stft_pad_mode", "reflect") != "reflect":
        raise ConfigError(f"stft_pad_mode is {audio['stft_pad_mode']!r}; only 'reflect' is supported.")
    logs: dict[str, Literal["ln", "log10"]] = {"np.log10": "log10", "np.log": "ln"}
    log = logs.get(str(audio.get("log_func", "np.log10")))
    if log is None:
        raise ConfigError(f"log_func is {audio['log_func']!r}; known are np.log10 and np.log.")
    gain, offset, clip = float(audio.get("spec_gain", 20)), 0.0, None
    if audio.get("signal_norm", True):
        low, top = float(audio.get("min_level_db", -100)), float(_or(audio.get("max_norm"), 1.0))
        symmetric = bool(audio.get("symmetric_norm", True))
        scale = (2 * top if symmetric else top) / -low
        bottom = -top if symmetric else 0.0
        gain, offset = gain * scale, scale * (-float(_or(audio.get("ref_level_db"), 0)) - low) + bottom
        clip = (bottom, top) if audio.get("clip_norm", True) else None
    rate, assumed = audio["sample_rate"], []
    hop, win = audio.get("hop_length"), audio.get("win_length")
    if hop is None:
        win = int(audio["frame_length_ms"] / 1000 * rate)
        hop = int(win / (audio["frame_length_ms"] / audio["frame_shift_ms"]))
    mel = MelConfig(
        sample_rate=rate,
        n_fft=audio.get("fft_size", 1024),
        hop_length=hop,
        win_length=_or(win, audio.get("fft_size", 1024)),
        num_mels=audio.get("num_mels", 80),
        fmin=float(audio.get("mel_fmin") or 0),
        fmax=None if audio.get("mel_fmax") is None else float(audio["mel_fmax"]),
        magnitude_floor=0.0,
        log=log,
        center=True,
        preemphasis=float(audio.get("preemphasis") or 0),
        gain=round(gain, 12),
        offset=round(offset, 12),
        clip=clip,
    )
    if clip is None or mel.floor > clip[0]:
        assumed.append(
            "amplitudes below 1e-5 count as 1e-5, as in older versions of coqui's TTS (newer ones take 1e-8)"
        )
    for name, what in (("do_sound_norm", "peak-normalised"), ("do_rms_norm", "normalised in loudness")):
        if audio.get(name):
            assumed.append(f"recordings were {what} before mels were made of them ({name}); do the same to yours")
    return mel, tuple(assumed)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _trimmed(generator: dict[str, Any]) -> dict[str, Any]:
    """The second kind of residual block reads two of the dilations it is given."""
    dilations = generator.get("resblock_dilation_sizes")
    if str(generator.get("resblock")) == "2" and dilations:
        generator["resblock_dilation_sizes"] = tuple(sizes[:2] for sizes in dilations)
    return generator
