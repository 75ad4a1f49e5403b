"""Conversion of the configurations of Hugging Face, NeMo and RVC, whose generators are those of HiFi-GAN."""

from collections.abc import Mapping
from typing import Any

from jaxvoice.config import format_value
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import LatentConfig
from jaxvoice.models.hifigan.foreign_settings import ForeignConfig, hop_length_of, read_sizes
from jaxvoice.weights.foreign_settings import Settings

RVC_KEY = "rvc"
_RVC_NAMES = (
    *("spec_channels", "segment_size", "inter_channels", "hidden_channels", "filter_channels", "n_heads", "n_layers"),
    *("kernel_size", "p_dropout", "resblock", "resblock_kernel_sizes", "resblock_dilation_sizes", "upsample_rates"),
    *("upsample_initial_channel", "upsample_kernel_sizes", "spk_embed_dim", "gin_channels", "sampling_rate"),
)


def read_huggingface_vits(table: Settings) -> ForeignConfig:
    """transformers `VitsConfig`: the decoder of VITS and MMS."""
    _check_slope(table)
    generator: dict[str, Any] = {**_huggingface_sizes(table), "in_channels": table.integer("flow_size")}
    generator["conv_post_bias"] = False
    if table.value("speaker_embedding_size"):
        generator["cond_channels"] = table.integer("speaker_embedding_size")
    latent = LatentConfig(
        table.integer("sampling_rate"), hop_length_of(generator["upsample_rates"]), generator["in_channels"]
    )
    return ForeignConfig("HF VITS", generator, latent)


def read_huggingface_vocoder(table: Settings) -> ForeignConfig:
    """transformers `SpeechT5HifiGanConfig` and `FastSpeech2ConformerHifiGanConfig`.

    They do not contain a mel contract. Those of the released models are known.

    **Raises:** `ConfigError` for other models.
    """
    if "vocoder_config" in table:
        table = table.table("vocoder_config")
    _check_slope(table)
    generator: dict[str, Any] = {**_huggingface_sizes(table), "in_channels": table.integer("model_in_dim")}
    rate, hop = table.integer("sampling_rate"), hop_length_of(generator["upsample_rates"])
    names = {(16000, 256): "SpeechT5", (22050, 256): "FastSpeech2Conformer"}
    name = names.get((rate, hop))
    if name is None or generator["in_channels"] != 80:
        raise ConfigError(
            f"this configuration of Hugging Face does not contain the mel contract, and {generator['in_channels']} "
            f"bands at {rate} Hz with a hop of {hop} samples are not those of SpeechT5 or FastSpeech2Conformer. Write "
            "a config.json in the form of jik876 (n_fft, hop_size, win_size, fmin, fmax), and pass it with --config."
        )
    mel = MelConfig(
        sample_rate=rate,
        fmin=80.0,
        fmax=7600.0,
        magnitude_floor=0.0,
        log_floor=1e-10,
        log="log10",
        center=True,
    )
    assumed = (f"mel contract of {name}: {rate} Hz, log10, 80 to 7600 Hz (not in the configuration)",)
    normalized = table.boolean("normalize_before", True)
    return ForeignConfig("Hugging Face", generator, mel, None, assumed, normalized=normalized)


def _huggingface_sizes(table: Settings) -> dict[str, Any]:
    # transformers has only residual blocks of kind 1.
    sizes = {name: table.value(name) for name in set(table) if name.startswith(("upsample", "resblock"))}
    return read_sizes(Settings({**sizes, "resblock": "1"}))


def _check_slope(table: Settings) -> None:
    slope = table.number("leaky_relu_slope", 0.1)
    if slope != 0.1:
        raise ConfigError(f"leaky_relu_slope is {format_value(slope)}; it should be 0.1, the slope of HiFi-GAN.")


def read_nemo(table: Settings) -> ForeignConfig:
    """NVIDIA NeMo `examples/tts/conf/hifigan`, and the `model_config.yaml` in a `.nemo` file.

    **Raises:** `ConfigError` for features that a mel contract cannot express.
    """
    features = table.table("preprocessor")
    for name, default, expected in (
        ("log", True, True),
        ("log_zero_guard_type", "add", "clamp"),
        ("window", "hann", "hann"),
        ("frame_splicing", 1, 1),
    ):
        value = features.value(name) if name in features else default
        if value != expected:
            raise ConfigError(
                f"preprocessor.{name} is {format_value(value)}; it should be {expected!r}, because a mel contract "
                "cannot express other values."
            )
    if features.value("normalize") not in (None, "", False, "None"):
        raise ConfigError(
            f"preprocessor.normalize is {format_value(features.value('normalize'))}; it should be null, because a mel "
            "contract cannot express the statistics of an utterance."
        )
    window, stated = features.integer("n_window_size"), set(features)
    preemphasis = features.number("preemph") if "preemph" in features else 0.0 if "preemph" in stated else 0.97
    scale = features.text("mel_norm", "slaney")
    if scale != "slaney":
        raise ConfigError(f"preprocessor.mel_norm is {format_value(scale)}; it should be 'slaney'.")
    mel = MelConfig(
        sample_rate=features.integer("sample_rate"),
        n_fft=features.integer("n_fft", 2 ** (window - 1).bit_length()),
        hop_length=features.integer("n_window_stride"),
        win_length=window,
        num_mels=features.integer("nfilt" if "nfilt" in features else "features", 64),
        fmin=features.number("lowfreq", 0.0),
        fmax=features.number("highfreq") if "highfreq" in features else None,
        power=features.number("mag_power", 2.0),
        magnitude_floor=1e-5 if features.boolean("use_grads", False) else 0.0,
        log_floor=features.number("log_zero_guard_value", 2**-24, above=0),
        center=not features.boolean("exact_pad", False),
        preemphasis=preemphasis,
    )
    generator = read_sizes(table.table("generator")) | {"in_channels": mel.num_mels}
    assumed = ("a periodic Hann window, while that of NeMo is symmetric",)
    return ForeignConfig("NeMo", generator, mel, None, assumed)


def rvc_table(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings in a model file of RVC as a table for `read_rvc`; `None` if the file is not one."""
    config = metadata.get("config")
    if not isinstance(config, list) or len(config) != len(_RVC_NAMES) or "f0" not in metadata:
        return None
    return {RVC_KEY: dict(zip(_RVC_NAMES, config, strict=True))}


def read_rvc(table: Settings) -> ForeignConfig:
    """RVC `infer/lib/train/process_ckpt.py`: settings of a VITS. Models without F0 have HiFi-GAN's decoder."""
    settings = table.table(RVC_KEY)
    generator: dict[str, Any] = {**read_sizes(settings), "in_channels": settings.integer("inter_channels")}
    generator["cond_channels"] = settings.integer("gin_channels", low=0)
    hop = hop_length_of(generator["upsample_rates"])
    latent = LatentConfig(settings.integer("sampling_rate"), hop, generator["in_channels"])
    return ForeignConfig("RVC", generator, latent)
