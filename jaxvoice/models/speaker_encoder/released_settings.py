"""The settings of coqui's speaker encoders, from `config_se.json` and from the stored front end. Without jax."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxvoice.config import format_value
from jaxvoice.dsp.coqui_mels import coqui_mel
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint
from jaxvoice.models.speaker_encoder.config import LSTMConfig, ResNetConfig, SpeakerEncoderConfig
from jaxvoice.models.speaker_encoder.weights import EMPHASIS, FILTERS, NAME, WINDOW, Kind, network_sizes
from jaxvoice.weights.foreign_settings import Settings, read_settings
from jaxvoice.weights.mismatches import format_name

SETTINGS_FILE = "config_se.json"
WEIGHTS_FILE = "model_se.pth"
_RATES = (16000, 8000, 11025, 22050, 24000, 32000, 44100, 48000)
_TOLERANCE = 1e-3  # of filters and windows, whose largest value is 1


def settings_of(checkpoint: Checkpoint) -> tuple[Mapping[str, Any] | None, Path | None]:
    """The settings of the encoder and their file: the configuration, or `config_se.json` in the folder of the weights.

    `None` if there are none: the `config.json` of a bundle contains the settings of its synthesiser.
    """
    table = checkpoint.config
    if table is not None and ("model_params" in table or table.get("family") == NAME):
        return table, checkpoint.config_path
    path = checkpoint.folder / SETTINGS_FILE
    return (read_settings(path), path) if path.is_file() else (None, None)


def read_coqui(
    settings: Settings | None,
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    kind: Kind,
    prefix: str,
    where: str,
    file: str,
) -> tuple[SpeakerEncoderConfig, tuple[str, ...]]:
    """The configuration of an encoder with these tensors, and assumptions.

    The stored front end decides on sample rate, window and pre-emphasis, because the network was trained with it.

    **Arguments:** `settings`, those of the configuration file `file`; `tensors` of the file `where`; `shapes` of those
    below `prefix`, by names without it.

    **Raises:** `CheckpointError` or `ConfigError` if the tensors contradict the settings, or do not determine the
    encoder.
    """
    network, bands = network_sizes(shapes, kind, where)
    params = Settings({}) if settings is None else settings.optional_table("model_params")
    audio = Settings({}) if settings is None else settings.optional_table("audio")
    assumed: list[str] = []
    if isinstance(network, ResNetConfig):
        if settings is None:
            assumed.append("the logarithm of the input, as in the release: there is no configuration")
        network = replace(network, log_input=params.boolean("log_input", settings is None))
    _check_sizes(params, network, bands, where, file)
    level = None
    if audio.boolean("do_rms_norm", False):
        level = audio.number("db_level", -27.0, most=0.0)
    if audio.boolean("do_trim_silence", False):
        assumed.append("recordings were trimmed to speech in training (do_trim_silence); trim yours in the same way")
    if FILTERS not in shapes:
        if settings is None or "audio" not in settings:
            raise ConfigError(
                f"{where} contains a speaker encoder that reads mels, and no settings of these; pass its "
                f"{SETTINGS_FILE} with --config."
            )
        # The pipeline scales recordings to `level` itself.
        mel, notes = coqui_mel({name: audio.value(name) for name in audio if name != "do_rms_norm"})
        if mel.num_mels != bands and not (kind == "resnet" and -(-mel.num_mels // 8) * 8 == bands):
            raise CheckpointError(
                f"audio.num_mels in {file} is {mel.num_mels}; it should be {bands}, as in {where}. Pass the "
                "configuration that belongs to the weights with --config."
            )
        return SpeakerEncoderConfig(network, mel, level), (*assumed, *notes)
    mel, notes = _front_end(audio, tensors, shapes, prefix, where)
    return SpeakerEncoderConfig(network, mel, level), (*assumed, *notes)


def _check_sizes(params: Settings, network: Any, bands: int, where: str, file: str) -> None:
    """Raise `CheckpointError` for sizes in the settings that are not those of the tensors."""
    sizes = {"proj_dim": network.dim}
    if isinstance(network, LSTMConfig):
        sizes |= {"input_dim": bands, "lstm_dim": network.hidden, "num_lstm_layers": network.layers}
    for name, size in sizes.items():
        if name in params and params.integer(name) != size:
            raise CheckpointError(
                f"model_params.{name} in {file} is {params.integer(name)}, but the tensors of {where} have {size}. "
                "Pass the configuration that belongs to the weights with --config."
            )


def _front_end(
    audio: Settings, tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], prefix: str, where: str
) -> tuple[PowerMelConfig, list[str]]:
    """The front end with the stored window, filterbank and pre-emphasis, and assumptions."""
    for name, rank in ((FILTERS, 2), (WINDOW, 1), (EMPHASIS, 3)):
        if len(shapes.get(name, ())) != rank:
            raise CheckpointError(
                f"{format_name(prefix + name)} in {where} is {shapes.get(name, 'missing')}; it should have {rank} axes."
            )
    bins, bands = shapes[FILTERS]
    filters, window, emphasis = (np.asarray(tensors[prefix + name], np.float32) for name in (FILTERS, WINDOW, EMPHASIS))
    stated = audio.integer("sample_rate", 16000)
    hop = audio.integer("hop_length", 160)
    notes = [] if "hop_length" in audio else ["160 samples between frames, as in the release"]
    preemphasis = round(float(-emphasis.ravel()[0]), 6)
    mel = PowerMelConfig(stated, 2 * (bins - 1), hop, len(window), bands, preemphasis=preemphasis)
    kinds: tuple[Literal["hamming", "hann"], ...] = ("hamming", "hann")
    windows = [kind for kind in kinds if _near(replace(mel, window=kind).window_values(), window)]
    if not windows:
        raise CheckpointError(
            f"{format_name(prefix + WINDOW)} in {where} is neither a Hamming nor a Hann window; the encoder is not "
            "supported."
        )
    rates = [rate for rate in (stated, *_RATES) if _near(replace(mel, sample_rate=rate).filterbank().T, filters)]
    if not rates:
        raise CheckpointError(
            f"{format_name(prefix + FILTERS)} in {where} is not a filterbank of torchaudio for {format_value(stated)} "
            "Hz or another usual sample rate; the encoder is not supported."
        )
    if rates[0] != stated:
        notes.append(
            f"a sample rate of {rates[0]} Hz, that of the stored filterbank; the configuration states {stated} Hz, "
            "and was probably edited"
        )
    return replace(mel, sample_rate=rates[0], window=windows[0]), notes


def _near(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() < _TOLERANCE)


def coqui_config(config: SpeakerEncoderConfig) -> dict[str, Any]:
    """coqui's settings of an encoder that reads waveforms, as JSON values; empty for others."""
    network, mel = config.network, config.mel
    if not isinstance(mel, PowerMelConfig):
        return {}
    params: dict[str, Any] = {"input_dim": mel.num_mels, "use_torch_spec": True, "proj_dim": network.dim}
    if isinstance(network, ResNetConfig):
        params |= {"model_name": "resnet", "log_input": network.log_input}
    elif isinstance(network, LSTMConfig):
        params |= {"model_name": "lstm", "lstm_dim": network.hidden, "num_lstm_layers": network.layers}
        params |= {"use_lstm_with_projection": network.projection}
    audio: dict[str, Any] = {"fft_size": mel.n_fft, "win_length": mel.win_length, "hop_length": mel.hop_length}
    audio |= {"sample_rate": mel.sample_rate, "preemphasis": mel.preemphasis, "num_mels": mel.num_mels}
    audio |= {"do_rms_norm": config.level is not None, "db_level": config.level}
    return {"model": "speaker_encoder", "model_params": params, "audio": audio}
