"""The configuration of a released checkpoint of XTTS, and coqui's `config.json` of one. Does not import jax."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxvoice.config import format_value, from_dict
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.hifigan.recognition import GeneratorSizes, rates_of_kernels, released_dilations
from jaxvoice.models.speaker_encoder.released_settings import read_coqui as read_encoder
from jaxvoice.models.xtts.config import (
    FRAMES_MEL,
    PERCEIVER_MEL,
    PRESETS,
    ConditioningConfig,
    GPTConfig,
    ReferenceConfig,
    SamplingConfig,
    XTTSConfig,
)
from jaxvoice.models.xtts.vocabulary import VocabularyIds
from jaxvoice.models.xtts.weights import DECODER, ENCODER, NAME, Shapes, below
from jaxvoice.models.xtts_dvae.config import DVAEConfig
from jaxvoice.models.xtts_dvae.weights import STATISTICS
from jaxvoice.weights.archive import Archive
from jaxvoice.weights.foreign_settings import Settings
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.schemas import migrate

_HEAD_CHANNELS = 64  # of the perceiver, in coqui's code


@dataclass(frozen=True)
class ReleasedConfig:
    """The configuration of a network in a checkpoint, with assumptions."""

    config: XTTSConfig
    assumed: tuple[str, ...]


def is_coqui(table: Any) -> bool:
    """Whether `table` is a configuration of coqui's XTTS."""
    return isinstance(table, Mapping) and table.get("model") == NAME and isinstance(table.get("model_args"), Mapping)


def is_ours(table: Any) -> bool:
    """Whether `table` is a configuration that jaxvoice wrote beside an export."""
    return isinstance(table, Mapping) and table.get("family") == NAME


def find_config(
    archive: Archive,
    prefix: str,
    table: Mapping[str, Any] | None,
    table_name: str,
    vocabulary: VocabularyIds,
    dvae: DVAEConfig | None,
) -> ReleasedConfig:
    """The configuration of the XTTS below `prefix`.

    Sizes are those of the tensors. Other settings are those of `table`, the configuration `table_name`, of the
    `vocabulary`, and of the `dvae`, where they are known; a `dvae` with other codes is not used.

    **Raises:** `CheckpointError` or `ConfigError` if these contradict each other, or if a tensor that determines a size
    is missing.
    """
    if table is not None and is_ours(table):
        config = from_dict(XTTSConfig, migrate("model folder", table, table_name).table.get("config", {}), table_name)
        return ReleasedConfig(config, ())
    if table is not None and not is_coqui(table):
        raise ConfigError(
            f"{table_name} is not a configuration of XTTS: model should be {NAME!r}, with the settings model_args. "
            "Pass the config.json of these weights with --config."
        )
    shapes = below({name: info.shape for name, info in archive.tensors.infos().items()}, prefix)
    where = archive.source.path.name
    settings = Settings(table or {})
    try:
        return _read(archive, prefix, shapes, settings, table_name, vocabulary, dvae, where)
    except ConfigError as failure:
        place = where if table is None else f"{table_name} and {where}"
        raise ConfigError(f"{place}: {failure}") from failure


def _read(
    archive: Archive,
    prefix: str,
    shapes: Shapes,
    settings: Settings,
    table_name: str,
    vocabulary: VocabularyIds,
    dvae: DVAEConfig | None,
    where: str,
) -> ReleasedConfig:
    args, assumed = settings.optional_table("model_args"), []
    gpt, guessed = _gpt(shapes, args, vocabulary, where)
    release = PRESETS["v2" if gpt.conditioning.latents else "v1_1"]
    if "model_args" not in settings:
        assumed += guessed
        assumed.append("sampling, languages and sample rates of the release: there is no configuration")
    decoder = _decoder(below(shapes, DECODER), where)
    encoder, _ = read_encoder(
        None, archive.tensors, below(shapes, ENCODER), "resnet", prefix + ENCODER, where, table_name
    )
    rate = args.integer("input_sample_rate", release.input_rate)
    if dvae is None or dvae.codes != gpt.codes:
        dvae = DVAEConfig(codes=gpt.codes)
    dvae = replace(dvae, mel=replace(dvae.mel, sample_rate=rate, num_mels=_size(shapes, STATISTICS, 0, 1, where)))
    conditioning = replace(gpt.conditioning, mel=replace(gpt.conditioning.mel, sample_rate=rate))
    sizes = {
        "gpt_layers": gpt.layers,
        "gpt_n_model_channels": gpt.channels,
        "gpt_number_text_tokens": gpt.text_ids,
        "gpt_num_audio_tokens": gpt.audio_ids,
        "gpt_max_text_tokens": gpt.max_text,
        "gpt_max_audio_tokens": gpt.max_audio,
        "decoder_input_dim": decoder.in_channels,
        "d_vector_dim": decoder.cond_channels,
        "output_hop_length": math.prod(decoder.upsample_rates),
        "gpt_code_stride_len": dvae.samples_per_code,
    }
    for name, size in sizes.items():
        if name in args and args.integer(name) != size:
            raise CheckpointError(
                f"model_args.{name} in {table_name} is {args.integer(name)}, but the tensors of {where} have {size}. "
                "Pass the configuration that belongs to the weights with --config."
            )
    if "gpt_use_perceiver_resampler" in args:
        perceiver = args.boolean("gpt_use_perceiver_resampler")
        if perceiver != bool(gpt.conditioning.latents):
            raise CheckpointError(
                f"model_args.gpt_use_perceiver_resampler in {table_name} is {perceiver}, but {where} contains "
                f"{'no' if perceiver else 'a'} perceiver. Pass the configuration that belongs to the weights with "
                "--config."
            )
    config = XTTSConfig(
        gpt=replace(gpt, conditioning=conditioning),
        decoder=decoder,
        sampling=_sampling(settings),
        references=_references(settings),
        dvae=dvae,
        output_rate=args.integer("output_sample_rate", release.output_rate),
        languages=_languages(settings, release.languages),
        speaker_encoder=encoder,
    )
    return ReleasedConfig(config, tuple(assumed))


def _size(shapes: Shapes, name: str, axis: int, rank: int, where: str) -> int:
    shape = shapes.get(name)
    if shape is None or len(shape) != rank or 0 in shape:
        found = "is missing" if shape is None else f"has shape {shape}"
        raise CheckpointError(
            f"{format_name(name)} {found} in {where}; it should be a weight of XTTS with {rank} "
            f"{'axis' if rank == 1 else 'axes'}. Download the file again."
        )
    return shape[axis]


def _gpt(shapes: Shapes, args: Settings, vocabulary: VocabularyIds, where: str) -> tuple[GPTConfig, list[str]]:
    """The language model, and assumptions for a file without configuration."""

    def size(name: str, axis: int, rank: int) -> int:
        return _size(shapes, f"gpt.{name}", axis, rank, where)

    def count(pattern: str) -> int:
        return len({int(hit[1]) for name in shapes if (hit := re.match(pattern, name))})

    channels, audio_ids = size("text_embedding.weight", 1, 2), size("mel_embedding.weight", 0, 2)
    heads = args.integer("gpt_n_heads", 16)
    bands = size("conditioning_encoder.init.weight", 1, 3)
    blocks = max(count(r"gpt\.conditioning_encoder\.attn\.([0-9]+)\."), 1)
    common: dict[str, Any] = {"blocks": blocks, "heads": heads, "norm_groups": math.gcd(32, channels)}
    if any(name.startswith("gpt.conditioning_perceiver.") for name in shapes):
        at = "conditioning_perceiver.layers.0"
        rows, width = size(f"{at}.0.to_q.weight", 0, 2), size(f"{at}.1.2.weight", 1, 2)
        conditioning = ConditioningConfig(
            latents=size("conditioning_perceiver.latents", 0, 2),
            depth=count(r"gpt\.conditioning_perceiver\.layers\.([0-9]+)\."),
            perceiver_heads=max(rows // _HEAD_CHANNELS, 1),
            head_channels=_HEAD_CHANNELS,
            # The smallest factor whose width, two thirds of it rounded down, is that of the tensors.
            feed_forward=max(-(-3 * width // (2 * channels)), 1),
            mel=replace(PERCEIVER_MEL, num_mels=bands),
            **common,
        )
    else:
        conditioning = ConditioningConfig(latents=0, mel=replace(FRAMES_MEL, num_mels=bands), **common)
    audio = {
        "gpt_start_audio_token": args.integer("gpt_start_audio_token", audio_ids - 2, low=0),
        "gpt_stop_audio_token": args.integer("gpt_stop_audio_token", audio_ids - 1, low=0),
    }
    if sorted(audio.values()) != [audio_ids - 2, audio_ids - 1]:
        raise ConfigError(
            f"{' and '.join(f'model_args.{name} is {number}' for name, number in audio.items())}; they should be "
            f"{audio_ids - 2} and {audio_ids - 1}, the last of the {audio_ids} rows of the table of codes."
        )
    config = GPTConfig(
        layers=max(count(r"gpt\.gpt\.h\.([0-9]+)\."), 1),
        channels=channels,
        heads=heads,
        text_ids=size("text_embedding.weight", 0, 2),
        # As in coqui's code, whatever the configuration states.
        start_text=vocabulary.start,
        stop_text=vocabulary.stop,
        audio_ids=audio_ids,
        start_audio=audio["gpt_start_audio_token"],
        stop_audio=audio["gpt_stop_audio_token"],
        max_text=size("text_pos_embedding.emb.weight", 0, 2) - 2,
        max_audio=size("mel_pos_embedding.emb.weight", 0, 2) - 3,
        max_prompt=args.integer("gpt_max_prompt_tokens", 70, low=0),
        conditioning=conditioning,
    )
    return config, [f"{heads} attention heads: there is no configuration"]


def _decoder(shapes: Shapes, where: str) -> GeneratorConfig:
    """The decoder, without weight norm on its first and last layer, as in coqui's code."""
    if not any(name.startswith("ups.0.") for name in shapes):
        raise CheckpointError(
            f"{where} contains no decoder (tensors below {DECODER.removesuffix('.')}); it should be the model.pth of "
            "an XTTS, or a checkpoint of its training."
        )
    tensors = GeneratorSizes(shapes)
    sizes = tensors.sizes({})
    rates = rates_of_kernels(sizes["upsample_kernel_sizes"], where)
    plain = {"conv_pre_weight_norm": False, "conv_post_weight_norm": False, "conv_post_bias": False}
    return GeneratorConfig(
        **{**sizes, **plain},
        upsample_rates=rates,
        resblock_dilation_sizes=released_dilations(sizes, tensors.convolutions(), where),
    )


def _sampling(settings: Settings) -> SamplingConfig:
    default = SamplingConfig()
    return SamplingConfig(
        temperature=settings.number("temperature", default.temperature),
        top_k=settings.integer("top_k", default.top_k, low=0),
        top_p=settings.number("top_p", default.top_p),
        repetition_penalty=settings.number("repetition_penalty", default.repetition_penalty),
    )


def _references(settings: Settings) -> ReferenceConfig:
    default = ReferenceConfig()
    return ReferenceConfig(
        seconds=settings.number("gpt_cond_len", default.seconds),
        part=settings.number("gpt_cond_chunk_len", default.part),
        longest=settings.number("max_ref_len", default.longest),
    )


def _languages(settings: Settings, release: tuple[str, ...]) -> tuple[str, ...]:
    names = settings.value("languages")
    if names is None:
        return release
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"languages is {format_value(names)}; it should be a list of language codes.")
    return tuple(names)


def coqui_config(config: XTTSConfig) -> dict[str, Any]:
    """The `config.json` of coqui for `config`; empty if sizes are not those that its code fixes."""
    gpt, conditioning = config.gpt, config.gpt.conditioning
    release = PRESETS["v2" if conditioning.latents else "v1_1"]
    mel = replace(release.gpt.conditioning.mel, sample_rate=config.input_rate)
    fixed = replace(release.gpt.conditioning, heads=gpt.heads, norm_groups=math.gcd(32, gpt.channels), mel=mel)
    others = replace(release.decoder, in_channels=gpt.channels), release.speaker_encoder
    if conditioning != fixed or (config.decoder, config.speaker_encoder) != others:
        return {}
    args = {
        "gpt_batch_size": 1,
        "gpt_checkpoint": None,
        "gpt_max_audio_tokens": gpt.max_audio,
        "gpt_max_text_tokens": gpt.max_text,
        "gpt_max_prompt_tokens": gpt.max_prompt,
        "gpt_layers": gpt.layers,
        "gpt_n_model_channels": gpt.channels,
        "gpt_n_heads": gpt.heads,
        "gpt_number_text_tokens": gpt.text_ids,
        "gpt_start_text_token": gpt.start_text,
        "gpt_stop_text_token": gpt.stop_text,
        "gpt_num_audio_tokens": gpt.audio_ids,
        "gpt_start_audio_token": gpt.start_audio,
        "gpt_stop_audio_token": gpt.stop_audio,
        "gpt_code_stride_len": config.dvae.samples_per_code,
        "gpt_use_masking_gt_prompt_approach": True,
        "gpt_use_perceiver_resampler": bool(conditioning.latents),
        "input_sample_rate": config.input_rate,
        "output_sample_rate": config.output_rate,
        "output_hop_length": math.prod(config.decoder.upsample_rates),
        "decoder_input_dim": config.decoder.in_channels,
        "d_vector_dim": config.decoder.cond_channels,
        "cond_d_vector_in_each_upsampling_layer": config.decoder.cond_in_each_stage,
    }
    sampling, references = config.sampling, config.references
    return {
        "model": NAME,
        "model_args": args,
        "audio": {"sample_rate": config.input_rate, "output_sample_rate": config.output_rate},
        "languages": list(config.languages),
        "temperature": sampling.temperature,
        "repetition_penalty": sampling.repetition_penalty,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "length_penalty": 1.0,
        "gpt_cond_len": _whole(references.seconds),
        "gpt_cond_chunk_len": _whole(references.part),
        "max_ref_len": _whole(references.longest),
    }


def _whole(seconds: float) -> float:
    """Seconds as an integer, which coqui expects, if they are whole."""
    return int(seconds) if seconds == int(seconds) else seconds
