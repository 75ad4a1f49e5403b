"""Conversion of other implementations' HiFi-GAN configurations: those of jik876, coqui and VITS."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxvoice.config import format_value, from_dict, to_dict
from jaxvoice.dsp.coqui_mels import coqui_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import GeneratorConfig, HiFiGANConfig, LatentConfig
from jaxvoice.models.hifigan.embedded_generators import (
    RVC_KEY,
    read_huggingface_vits,
    read_huggingface_vocoder,
    read_nemo,
    read_rvc,
)
from jaxvoice.models.hifigan.foreign_settings import OPTIONAL_SIZES, ForeignConfig, hop_length_of, read_sizes
from jaxvoice.weights.foreign_settings import LONGEST_SEGMENT, Settings
from jaxvoice.weights.schemas import migrate


def read_foreign_config(table: Mapping[str, Any], where: str) -> ForeignConfig:
    """The settings in `table`, the content of the configuration `where`.

    **Raises:** `ConfigError` if the configuration is of an unknown kind, is incomplete, or has settings that a mel
    contract cannot express.
    """
    read = _reader_of(table)
    if read is None:
        raise ConfigError(
            f"{where} is not a known HiFi-GAN configuration. jik876's has upsample_rates and sampling_rate; coqui's "
            "has generator_model_params and audio, or model_args; Hugging Face's has model_in_dim or flow_size; NeMo's "
            "has preprocessor and generator. Pass the correct file with --config."
        )
    if read is _read_jaxvoice:
        table = migrate("model folder", table, where).table
    try:
        return read(Settings(table))
    except ConfigError as failure:
        raise ConfigError(f"{where}: {failure}") from failure


def is_known(table: Any) -> bool:
    """Whether `read_foreign_config` knows this kind of configuration."""
    return isinstance(table, Mapping) and _reader_of(table) is not None


def _reader_of(table: Mapping[str, Any]) -> Callable[[Settings], ForeignConfig] | None:
    if table.get("family") == "hifigan":
        return _read_jaxvoice
    if "generator_model_params" in table:
        return _read_coqui_vocoder
    if isinstance(table.get("model_args"), Mapping):
        return _read_coqui_model
    if table.get("model_type") == "vits" and "flow_size" in table:
        return read_huggingface_vits
    if "model_in_dim" in table or isinstance(table.get("vocoder_config"), Mapping):
        return read_huggingface_vocoder
    if isinstance(table.get("preprocessor"), Mapping) and isinstance(table.get("generator"), Mapping):
        return read_nemo
    if RVC_KEY in table:
        return read_rvc
    if "upsample_rates" in table and "sampling_rate" in table:
        return _read_jik876
    if isinstance(table.get("model"), Mapping) and isinstance(table.get("data"), Mapping):
        return _read_vits
    return None


def _read_jaxvoice(table: Settings) -> ForeignConfig:
    config = from_dict(HiFiGANConfig, table.value("config"))
    return ForeignConfig("jaxvoice", dict(vars(config.generator)), config.mel, config.segment_size)


def _read_jik876(table: Settings) -> ForeignConfig:
    """jik876/hifi-gan `config_v1.json`."""
    generator = read_sizes(table) | {"in_channels": table.integer("num_mels", 80)}
    mel = MelConfig(
        sample_rate=table.integer("sampling_rate"),
        n_fft=table.integer("n_fft"),
        hop_length=table.integer("hop_size"),
        win_length=table.integer("win_size"),
        num_mels=generator["in_channels"],
        fmin=table.number("fmin", 0.0),
        fmax=table.number("fmax") if "fmax" in table else None,
    )
    assumed = []
    absent = [name for name in ("num_mels", "fmin", "fmax") if name not in set(table)]
    if absent:
        assumed.append(
            f"{', '.join(absent)}: not in the configuration; {mel.num_mels} bands from {mel.fmin:g} to "
            f"{mel.upper_frequency:g} Hz"
        )
    if "fmax_for_loss" in table:
        value = format_value(table.value("fmax_for_loss"))
        assumed.append(f"the training loss uses mels up to Nyquist, not up to fmax_for_loss = {value}")
    segment = table.integer("segment_size", high=LONGEST_SEGMENT) if "segment_size" in table else None
    decay = table.number("lr_decay", above=0, most=1) if "lr_decay" in table else None
    return ForeignConfig("jik876", generator, mel, segment, tuple(assumed), decay)


def jik876_config(config: HiFiGANConfig) -> dict[str, Any]:
    """The settings of `config` for the inference code of jik876/hifi-gan; empty if it cannot express them."""
    generator, mel = config.generator, config.mel
    if not isinstance(mel, MelConfig):
        return {}
    names = ("upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel")
    names += ("resblock", "resblock_kernel_sizes", "resblock_dilation_sizes")
    table = {name: value for name, value in to_dict(generator).items() if name in names}
    table |= {
        "num_mels": mel.num_mels,
        "n_fft": mel.n_fft,
        "hop_size": mel.hop_length,
        "win_size": mel.win_length,
        "sampling_rate": mel.sample_rate,
        "fmin": mel.fmin,
        "fmax": mel.fmax,
        "fmax_for_loss": None,
        "segment_size": config.segment_size,
        "seed": 1234,  # the inference scripts require it
    }
    found = _read_jik876(Settings(table))
    return table if found.mel == mel and GeneratorConfig(**found.generator) == generator else {}


def _read_coqui_vocoder(table: Settings) -> ForeignConfig:
    """coqui-ai/TTS `TTS/vocoder/configs/hifigan_config.py`."""
    model, params = table.text("generator_model", "hifigan_generator"), table.table("generator_model_params")
    if model != "hifigan_generator":
        raise ConfigError(f"generator_model is {format_value(model)}; it should be 'hifigan_generator'.")
    generator = read_sizes(params, rates="upsample_factors", block="resblock_type", optional=OPTIONAL_SIZES)
    if "cond_channels" in params:
        generator["cond_channels"] = params.integer("cond_channels", low=0)
    for name in ("conv_pre_weight_norm", "conv_post_weight_norm", "conv_post_bias"):
        if name in params:
            generator[name] = params.boolean(name)
    mel, assumed = coqui_mel(table.value("audio"))
    generator["in_channels"] = mel.num_mels
    schedule = table.optional_table("lr_scheduler_gen_params")
    decay = schedule.number("gamma", above=0, most=1) if "gamma" in schedule else None
    segment = table.integer("seq_len", high=LONGEST_SEGMENT) if "seq_len" in table else None
    return ForeignConfig("coqui", generator, mel, segment, assumed, decay)


def _read_coqui_model(table: Settings) -> ForeignConfig:
    """coqui-ai/TTS `vits_config.py` and `xtts_config.py`: the generator is a part of the model."""
    args = table.table("model_args")
    if table.value("model") == "xtts" or "decoder_input_dim" in args:
        generator = dict[str, Any]()
        for field_name, key in (("in_channels", "decoder_input_dim"), ("cond_channels", "d_vector_dim")):
            if key in args:
                generator[field_name] = args.integer(key, low=0)
        if "cond_d_vector_in_each_upsampling_layer" in args:
            generator["cond_in_each_stage"] = args.boolean("cond_d_vector_in_each_upsampling_layer")
        rate, hop = args.integer("output_sample_rate", 24000), args.integer("output_hop_length", 256)
        return ForeignConfig("XTTS", generator, LatentConfig(rate, hop, args.integer("decoder_input_dim", 1024)))
    rates, block = "upsample_rates_decoder", "resblock_type_decoder"
    generator = read_sizes(args, rates, block, suffix="_decoder", optional=(*OPTIONAL_SIZES, rates, block))
    if "hidden_channels" in args:
        generator["in_channels"] = args.integer("hidden_channels")
    audio = table.table("audio")
    hop = hop_length_of(generator["upsample_rates"]) if "upsample_rates" in generator else audio.integer("hop_length")
    return ForeignConfig(
        "VITS", generator, LatentConfig(audio.integer("sample_rate"), hop, args.integer("hidden_channels", 192))
    )


def _read_vits(table: Settings) -> ForeignConfig:
    """jaywalnut310/vits `configs/ljs_base.json`."""
    model, data = table.table("model"), table.table("data")
    channels = model.integer("inter_channels")
    generator = read_sizes(model)
    generator["in_channels"] = channels
    if model.value("gin_channels"):
        generator["cond_channels"] = model.integer("gin_channels")
    hop = hop_length_of(generator["upsample_rates"])
    return ForeignConfig("VITS", generator, LatentConfig(data.integer("sampling_rate"), hop, channels))
