"""Conversion of coqui's audio settings to a mel contract."""

import math
from typing import Any, Literal

from jaxvoice.config import format_value
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.weights.foreign_settings import Settings


def coqui_mel(audio: Any) -> tuple[MelConfig, tuple[str, ...]]:
    """The mel contract of coqui's `audio` settings, and the assumptions about missing settings.

    The mel is a gain times the logarithm of mel amplitudes, minus `ref_level_db`. It is mapped from [min_level_db, 0]
    to [0, max_norm], or to [-max_norm, max_norm] if `symmetric_norm` is true, and clipped to this range. Source:
    coqui-ai/TTS `TTS/utils/audio/processor.py`; defaults are those of `TTS/config/shared_configs.py`.

    **Raises:** `ConfigError` for mean-variance normalisation, amplitudes without a logarithm, an unsupported
    padding mode, and values of the wrong type.
    """
    table = Settings(audio, "audio.")
    if table.value("stats_path") and table.boolean("signal_norm", True):
        raise ConfigError(
            f"audio.stats_path is {format_value(table.value('stats_path'))}; it should be null, since a mel contract "
            "has no means and variances. Normalise the mels yourself, and import with a --config in which signal_norm "
            "is false."
        )
    if not table.boolean("do_amp_to_db_mel", True):
        raise ConfigError("audio.do_amp_to_db_mel is false; it should be true, since a mel contract has a logarithm.")
    if table.text("stft_pad_mode", "reflect") != "reflect":
        raise ConfigError(
            f"audio.stft_pad_mode is {format_value(table.value('stft_pad_mode'))}; it should be 'reflect'."
        )
    logs: dict[str, Literal["ln", "log10"]] = {"np.log10": "log10", "np.log": "ln"}
    log = logs.get(table.text("log_func", "np.log10"))
    if log is None:
        raise ConfigError(
            f"audio.log_func is {format_value(table.value('log_func'))}; it should be 'np.log10' or 'np.log'."
        )
    gain, offset, clip = table.number("spec_gain", 20.0, above=0), 0.0, None
    normalised = table.boolean("signal_norm", True)
    if normalised:
        # In these settings, a missing key and null mean different things.
        reference, top = (
            table.number(name, null if name in set(table) else absent, above=above)
            for name, absent, null, above in (("ref_level_db", 20.0, 0.0, -math.inf), ("max_norm", 4.0, 1.0, 0.0))
        )
        low = -table.number("min_level_db", -100.0)
        if low <= 0:
            raise ConfigError(
                f"audio.min_level_db is {format_value(table.value('min_level_db'))}; it should be below 0."
            )
        bottom = -top if table.boolean("symmetric_norm", True) else 0.0
        scale = (top - bottom) / low
        gain, offset = gain * scale, scale * (low - reference) + bottom
        clip = (bottom, top) if table.boolean("clip_norm", True) else None
    rate, assumed = table.integer("sample_rate"), _coqui_defaults(table, normalised)
    n_fft = table.integer("fft_size", 1024)
    if "hop_length" in table:
        hop, win = table.integer("hop_length"), table.integer("win_length", n_fft)
    else:
        frame, shift = (table.number(name, above=1e-3, most=1e6) for name in ("frame_length_ms", "frame_shift_ms"))
        win = int(frame / 1000 * rate)
        hop = int(win / (frame / shift))
    mel = MelConfig(
        sample_rate=rate,
        n_fft=n_fft,
        hop_length=hop,
        win_length=win,
        num_mels=table.integer("num_mels", 80),
        fmin=table.number("mel_fmin", 0.0),
        fmax=table.number("mel_fmax") if "mel_fmax" in table else None,
        magnitude_floor=0.0,
        log=log,
        center=True,
        preemphasis=table.number("preemphasis", 0.0),
        gain=round(gain, 12),
        offset=round(offset, 12),
        clip=clip,
    )
    if clip is None or mel.floor > clip[0]:
        assumed.append("amplitudes are clipped at 1e-5, as in older versions of coqui's TTS (newer versions use 1e-8)")
    for name, treatment in (("do_sound_norm", "peak-normalised"), ("do_rms_norm", "normalised in loudness")):
        if table.boolean(name, False):
            assumed.append(
                f"recordings were {treatment} before the mels were computed ({name}); process yours in the same way"
            )
    return mel, tuple(assumed)


# coqui's defaults.
_DEFAULTS = {"fft_size": "1024", "num_mels": "80", "mel_fmin": "0", "mel_fmax": "half the rate", "preemphasis": "0"}
_DEFAULTS |= {"log_func": "np.log10", "spec_gain": "20", "signal_norm": "true"}
_NORM_DEFAULTS = {"ref_level_db": "20", "min_level_db": "-100", "max_norm": "4", "symmetric_norm": "true"}
_NORM_DEFAULTS |= {"clip_norm": "true"}
# Settings whose null differs from a missing key.
_NULLABLE = ("mel_fmin", "mel_fmax", "preemphasis", "ref_level_db", "max_norm")


def _coqui_defaults(table: Settings, normalised: bool) -> list[str]:
    present = {name for name in table if name in table or name in _NULLABLE}
    known = _DEFAULTS | (_NORM_DEFAULTS if normalised else {})
    absent = [f"{name} {value}" for name, value in known.items() if name not in present]
    return [f"coqui's defaults for missing audio settings: {', '.join(absent)}"] if absent else []
