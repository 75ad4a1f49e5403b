"""The settings in the configurations of coqui's VITS and of the original. Does not import jax."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxvoice.config import format_value
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.vits.config import MEL, ORIGINAL_NORMS
from jaxvoice.text.symbol_table import VITS_SYMBOLS, SymbolTable
from jaxvoice.weights.foreign_settings import LONGEST_SEGMENT, Settings

_UNREAD = "\ue000"  # stands for symbols that no text contains
_COQUI_SIZES = {
    "num_chars": "symbols",
    "hidden_channels": "channels",
    "out_channels": "bins",
    "hidden_channels_ffn_text_encoder": "text.feed_forward",
    "num_heads_text_encoder": "text.heads",
    "num_layers_text_encoder": "text.layers",
    "kernel_size_text_encoder": "text.kernel_size",
    "kernel_size_posterior_encoder": "posterior.kernel_size",
    "num_layers_posterior_encoder": "posterior.layers",
    "kernel_size_flow": "flow.kernel_size",
    "num_layers_flow": "flow.layers",
}
_ORIGINAL_SIZES = {
    "hidden_channels": "channels",
    "filter_channels": "text.feed_forward",
    "n_heads": "text.heads",
    "n_layers": "text.layers",
    "kernel_size": "text.kernel_size",
}
ORIGINAL_FIELDS = {f"durations.{name}": value for name, value in ORIGINAL_NORMS.items()}
"""Values that the original fixes in its code, by the names of fields of `VITSConfig`."""
_BLOCKS = ("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "resblock_dilation_sizes")
_IPA_CLEANERS = ("phoneme_cleaners", "english_cleaners")


@dataclass(frozen=True)
class ReleasedSettings:
    """The settings in a configuration."""

    sizes: Mapping[str, tuple[str, Any]]
    """Sizes by the names of `geometry`, each with its name in the file."""
    decoder: Mapping[str, Any]
    """Fields of the decoder's `GeneratorConfig`."""
    symbols: SymbolTable | None
    """The symbols; `None` if the configuration does not state them."""
    mel: MelConfig
    """The mel contract."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other settings, by dotted names of `VITSConfig`."""
    languages: tuple[str, ...] = ()
    """Names of the languages of the training data, sorted."""
    assumed: tuple[str, ...] = ()
    """Assumptions about settings that are missing."""


def is_coqui(table: Any) -> bool:
    """Whether `table` is a configuration of coqui's VITS."""
    return isinstance(table, Mapping) and isinstance(table.get("model_args"), Mapping) and "audio" in table


def is_original(table: Any) -> bool:
    """Whether `table` is a configuration of jaywalnut310/vits."""
    return isinstance(table, Mapping) and all(isinstance(table.get(part), Mapping) for part in ("model", "data"))


def read_coqui(table: Mapping[str, Any]) -> ReleasedSettings:
    """coqui-ai/TTS `configs/vits_config.py` and `models/vits.py:VitsArgs`.

    **Raises:** `ConfigError`, which names the setting, for settings that are not supported or have another type.
    """
    settings = Settings(table)
    args, audio = settings.table("model_args"), settings.table("audio")
    _check_coqui(args)
    sizes: dict[str, tuple[str, Any]] = {
        ours: (theirs, args.integer(theirs)) for theirs, ours in _COQUI_SIZES.items() if theirs in args
    }
    if "use_sdp" in args:
        sizes["durations.kind"] = ("use_sdp", "stochastic" if args.boolean("use_sdp") else "deterministic")
    vectors, table_of_speakers = (args.boolean(name, False) for name in ("use_d_vector_file", "use_speaker_embedding"))
    if vectors:
        sizes["speaker_channels"] = ("d_vector_dim", args.integer("d_vector_dim", 0, low=0))
    elif table_of_speakers and args.integer("num_speakers", 0, low=0):
        sizes["speaker_channels"] = ("speaker_embedding_channels", args.integer("speaker_embedding_channels", 256))
        sizes["num_speakers"] = ("num_speakers", args.integer("num_speakers"))
    elif "use_d_vector_file" in set(args):
        sizes["speaker_channels"] = ("use_d_vector_file", 0)
    languages = args.boolean("use_language_embedding", False)
    if languages:
        sizes["language_channels"] = ("embedded_language_dim", args.integer("embedded_language_dim", 4))
        if args.integer("num_languages", 0, low=0):
            sizes["languages"] = ("num_languages", args.integer("num_languages"))
    elif "use_language_embedding" in set(args):
        sizes["language_channels"] = ("use_language_embedding", 0)
    fields: dict[str, Any] = {
        "posterior.dilation_rate": args.integer("dilation_rate_posterior_encoder", 1),
        "flow.dilation_rate": args.integer("dilation_rate_flow", 1),
        "text.dropout": args.number("dropout_p_text_encoder", 0.1),
        "durations.dropout": args.number("dropout_p_duration_predictor", 0.5),
        "sampling.noise_scale": args.number("inference_noise_scale", 0.667),
        "sampling.duration_noise_scale": args.number("inference_noise_scale_dp", 1.0),
        "sampling.length_scale": args.number("length_scale", 1.0),
        "segment_frames": args.integer("spec_segment_size", 32, high=2**14),
    }
    if "periods_multi_period_discriminator" in args:
        fields["discriminators.periods"] = args.integers("periods_multi_period_discriminator")
    decoder = _decoder(args, "_decoder", block="resblock_type_decoder")
    mel = MelConfig(
        sample_rate=audio.integer("sample_rate"),
        n_fft=audio.integer("fft_size", 1024),
        hop_length=audio.integer("hop_length", 256),
        win_length=audio.integer("win_length", 1024),
        num_mels=audio.integer("num_mels", 80),
        fmin=audio.number("mel_fmin", 0.0),
        fmax=audio.number("mel_fmax") if "mel_fmax" in audio else None,
        magnitude_floor=MEL.magnitude_floor,
    )
    bins = mel.n_fft // 2 + 1
    if sizes.setdefault("bins", ("audio.fft_size", bins))[1] != bins:
        raise ConfigError(
            f"model_args.out_channels is {sizes['bins'][1]}, but audio.fft_size is {mel.n_fft}; out_channels should be "
            f"fft_size // 2 + 1, {bins}. Restore the file."
        )
    sizes["bins"] = ("audio.fft_size", bins)
    symbols, assumed = _coqui_symbols(settings)
    names = _languages(settings) if languages else ()
    return ReleasedSettings(sizes, decoder, symbols, mel, fields, names, assumed)


def _check_coqui(args: Settings) -> None:
    if args.value("encoder_sample_rate") is not None:
        raise ConfigError(
            f"model_args.encoder_sample_rate is {format_value(args.value('encoder_sample_rate'))}; it should be null. "
            "Models whose decoder has another sample rate than their encoders are not supported."
        )


def _decoder(table: Settings, suffix: str, *, block: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (*_BLOCKS, "upsample_initial_channel"):
        key = name + suffix
        if key not in table:
            continue
        if name == "resblock_dilation_sizes":
            found[name] = table.integer_lists(key)
        else:
            found[name] = table.integers(key) if name in _BLOCKS else table.integer(key)
    if block in table:
        found["resblock"] = table.text(block)
    return found


def _languages(settings: Settings) -> tuple[str, ...]:
    data = settings.value("datasets")
    rows = data if isinstance(data, list) else []
    names = {row["language"] for row in rows if isinstance(row, Mapping) and isinstance(row.get("language"), str)}
    return tuple(sorted(name for name in names if name))


def _coqui_symbols(settings: Settings) -> tuple[SymbolTable | None, tuple[str, ...]]:
    """coqui's `VitsCharacters`: padding, punctuation, characters, letters of the IPA, and the blank.

    Duplicates are kept.
    """
    if "characters" not in settings:
        return None, ()
    table = settings.table("characters")
    kind = table.text("characters_class", "VitsCharacters").rpartition(".")[2]
    if kind != "VitsCharacters":
        raise ConfigError(
            f"characters.characters_class is {format_value(table.value('characters_class'))}; it should be "
            "VitsCharacters. Tables of other classes are not supported."
        )
    pad, marks = table.text("pad", "_"), table.text("punctuations", "")
    letters = table.text("characters", "") + table.text("phonemes", "")
    characters = (pad if len(pad) == 1 else _UNREAD) + marks + letters
    ipa = settings.boolean("use_phonemes", False)
    cleaner = settings.text("text_cleaner") if "text_cleaner" in settings else None
    assumed: tuple[str, ...] = ()
    known = {"multilingual_cleaners": "multilingual", "basic_cleaners": "lowercase", None: "spaces"}
    chosen: Any = "spaces" if ipa else known.get(cleaner, "lowercase")
    if cleaner not in known and not (ipa and cleaner in _IPA_CLEANERS):
        assumed = (
            f"texts are {'given as' if ipa else 'converted to'} {'the IPA' if ipa else 'lower case'}; the cleaner "
            f"{format_value(cleaner)} of the configuration is not applied",
        )
    alphabet = "ipa" if ipa else "characters"
    if settings.boolean("add_blank", True):
        return SymbolTable(characters, cleaner=chosen, alphabet=alphabet), assumed
    return SymbolTable(characters + _UNREAD, blank="none", cleaner=chosen, alphabet=alphabet), assumed


def read_original(table: Mapping[str, Any]) -> ReleasedSettings:
    """jaywalnut310/vits `configs/ljs_base.json` and `configs/vctk_base.json`.

    **Raises:** `ConfigError`, which names the setting, for settings that are not supported or have another type.
    """
    settings = Settings(table)
    model, data = settings.table("model"), settings.table("data")
    sizes: dict[str, tuple[str, Any]] = {
        ours: (f"model.{theirs}", model.integer(theirs)) for theirs, ours in _ORIGINAL_SIZES.items() if theirs in model
    }
    inter = model.integer("inter_channels", model.integer("hidden_channels", 192))
    if "hidden_channels" in model and inter != model.integer("hidden_channels"):
        raise ConfigError(
            f"model.inter_channels is {inter}; it should be hidden_channels, {model.integer('hidden_channels')}. Other "
            "models are not supported."
        )
    if "use_sdp" in model:
        sizes["durations.kind"] = ("model.use_sdp", "stochastic" if model.boolean("use_sdp") else "deterministic")
    speakers = data.integer("n_speakers", 0, low=0)
    if speakers:
        sizes["num_speakers"] = ("data.n_speakers", speakers)
        sizes["speaker_channels"] = ("model.gin_channels", model.integer("gin_channels", 0, low=0))
    mel = MelConfig(
        sample_rate=data.integer("sampling_rate"),
        n_fft=data.integer("filter_length", 1024),
        hop_length=data.integer("hop_length", 256),
        win_length=data.integer("win_length", 1024),
        num_mels=data.integer("n_mel_channels", 80),
        fmin=data.number("mel_fmin", 0.0),
        fmax=data.number("mel_fmax") if "mel_fmax" in data else None,
        magnitude_floor=MEL.magnitude_floor,
    )
    sizes["bins"] = ("data.filter_length", mel.n_fft // 2 + 1)
    segment = settings.optional_table("train").integer("segment_size", 8192, high=LONGEST_SEGMENT)
    fields = {
        "text.dropout": model.number("p_dropout", 0.1),
        "segment_frames": max(1, segment // mel.hop_length),
        **ORIGINAL_FIELDS,
    }
    return ReleasedSettings(
        sizes, _decoder(model, "", block="resblock"), _original_symbols(settings, data), mel, fields
    )


def _original_symbols(settings: Settings, data: Settings) -> SymbolTable | None:
    """The symbols in a configuration, as later programs write them; `None` if there are none."""
    listed, blank = settings.value("symbols"), data.boolean("add_blank", True)
    if listed is None:
        return None if blank else SymbolTable(VITS_SYMBOLS.characters, "none", "spaces", "ipa")
    if not isinstance(listed, list | tuple | str) or not all(isinstance(one, str) and one for one in listed):
        raise ConfigError(f"symbols is {format_value(listed)}; it should be a list of texts.")
    characters = "".join(one if len(one) == 1 else _UNREAD for one in listed)
    return SymbolTable(characters, "first" if blank else "none", "spaces", "ipa")
