"""The configuration of a released checkpoint of VITS or YourTTS, from its tensors and the files beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxvoice.config import format_value, from_dict, parse_json, read_text
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint
from jaxvoice.models.hifigan.config import GeneratorConfig
from jaxvoice.models.hifigan.recognition import rates_of_kernels
from jaxvoice.models.vits.config import (
    PRESETS,
    DurationConfig,
    SamplingConfig,
    TextEncoderConfig,
    VITSConfig,
    WaveNetConfig,
)
from jaxvoice.models.vits.released_settings import (
    ORIGINAL_FIELDS,
    ReleasedSettings,
    is_coqui,
    is_original,
    read_coqui,
    read_original,
)
from jaxvoice.models.vits.weights import (
    NAME,
    RULES,
    Place,
    Source,
    decoder_sizes,
    geometry,
    renamed,
)
from jaxvoice.text.symbol_table import VITS_SYMBOLS, YOURTTS_SYMBOLS, SymbolTable
from jaxvoice.weights.schemas import migrate

LANGUAGES_FILE = "language_ids.json"
"""The file with the ids of languages, beside a checkpoint of coqui's."""
MOST_BYTES = 2**20
"""The largest JSON file that is read."""


@dataclass(frozen=True)
class FoundNetwork:
    """A network in a checkpoint, with its configuration and assumptions."""

    place: Place
    config: VITSConfig
    assumed: tuple[str, ...]


def find_network(checkpoint: Checkpoint, place: Place) -> FoundNetwork:
    """The network at `place`, with the configuration that its tensors and the files beside it imply.

    **Raises:** `CheckpointError` or `ConfigError` if tensors and files contradict each other.
    """
    archive, where = checkpoint.archive, checkpoint.name
    table = checkpoint.config
    table_name = str(checkpoint.config_path or "the configuration")
    if table is None and isinstance(archive.metadata.get("config"), Mapping):
        table, table_name = archive.metadata["config"], f"the configuration in {where}"
    if table is not None and table.get("family") == NAME:
        config = from_dict(VITSConfig, migrate("model folder", table, table_name).table.get("config", {}), table_name)
        return FoundNetwork(place, _with_languages_of_file(config, checkpoint.folder / LANGUAGES_FILE), ())
    shapes = {
        name.removeprefix(place.prefix): info.shape
        for name, info in archive.tensors.infos().items()
        if name.startswith(place.prefix)
    }
    ours = renamed(shapes, RULES[place.source])
    sizes = geometry(ours, where)
    settings, assumed = _settings(table, table_name, place.source, sizes, where)
    _check_sizes(settings, sizes, table_name, where)
    decoder = _decoder(settings, decoder_sizes(ours, settings.decoder), table_name, where)
    languages, more = _languages(checkpoint.folder, sizes["languages"], settings)
    symbols, again = _symbols(settings, sizes["symbols"], table_name, where)
    try:
        config = _config(sizes, settings, decoder, languages, symbols)
    except ConfigError as failure:
        raise ConfigError(f"{table_name} and {where}: {failure}") from failure
    return FoundNetwork(place, config, (*settings.assumed, *assumed, *more, *again))


def _settings(
    table: Mapping[str, Any] | None, table_name: str, source: Source, sizes: Mapping[str, Any], where: str
) -> tuple[ReleasedSettings, tuple[str, ...]]:
    if table is not None:
        for known, read in ((is_coqui, read_coqui), (is_original, read_original)):
            if known(table):
                try:
                    return read(table), ()
                except ConfigError as failure:
                    raise ConfigError(f"{table_name}: {failure}") from failure
        raise ConfigError(
            f"{table_name} is not a configuration of VITS: coqui's has model_args and audio, the original's model and "
            "data. Pass the correct file with --config."
        )
    release = PRESETS["original_ljspeech"]
    if source == "original" and sizes["symbols"] == release.symbols.size and sizes["bins"] == release.spectrogram_bins:
        assumed = "22050 Hz and the symbols of the release (no configuration)"
        return ReleasedSettings({}, {}, None, release.mel, ORIGINAL_FIELDS), (assumed,)
    raise CheckpointError(
        f"The symbols and the sample rate of {where} are unknown; pass its configuration (config.json) with --config."
    )


def _check_sizes(settings: ReleasedSettings, sizes: Mapping[str, Any], table_name: str, where: str) -> None:
    for name, (theirs, value) in settings.sizes.items():
        if value != sizes[name]:
            raise CheckpointError(
                f"{theirs} in {table_name} means that {name} is {format_value(value)}, but the tensors of {where} have "
                f"{format_value(sizes[name])}. Pass the configuration that belongs to the weights with --config."
            )


def _decoder(settings: ReleasedSettings, found: Mapping[str, Any], table_name: str, where: str) -> GeneratorConfig:
    """The decoder with the sizes in the tensors, and the rates and dilations in the configuration."""
    sizes, stated = dict(found), dict(settings.decoder)
    convolutions = sizes.pop("convolutions")
    for name, value in stated.items():
        if name in sizes and sizes[name] != value:
            raise CheckpointError(
                f"{name} of the decoder is {format_value(value)} in {table_name}, but the tensors of {where} have "
                f"{format_value(sizes[name])}. Pass the configuration that belongs to the weights with --config."
            )
    dilations = stated.pop("resblock_dilation_sizes", None) or ((1, 3, 5),) * len(convolutions)
    # Blocks of kind 2 have two convolutions, also for three dilations in the configuration.
    cut = tuple(row[:count] for row, count in zip(dilations, convolutions, strict=False))
    if tuple(map(len, cut)) != convolutions:
        raise CheckpointError(
            f"resblock_dilation_sizes of the decoder is {format_value(dilations)} in {table_name}, but the tensors of "
            f"{where} have {format_value(convolutions)} convolutions in the blocks of a stage. Pass the configuration "
            "that belongs to the weights with --config."
        )
    rates, stages = stated.get("upsample_rates"), len(sizes["upsample_kernel_sizes"])
    if rates is not None and len(rates) != stages:
        raise CheckpointError(
            f"upsample_rates of the decoder is {format_value(rates)} in {table_name}, but the tensors of {where} have "
            f"{stages} stages of upsampling. Pass the configuration that belongs to the weights with --config."
        )
    rates = rates or rates_of_kernels(sizes["upsample_kernel_sizes"], where)
    try:
        return GeneratorConfig(**{**sizes, "upsample_rates": rates, "resblock_dilation_sizes": cut})
    except ConfigError as failure:
        raise ConfigError(f"The decoder in {table_name} and {where}: {failure}") from failure


def _languages(folder: Path, rows: int, settings: ReleasedSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the languages in the order of their ids, and assumptions. The file beside the weights decides."""
    path = folder / LANGUAGES_FILE
    if not rows:
        return (), ()
    if path.is_file():
        return _languages_in(path, rows), ()
    names = settings.languages
    if len(names) == rows:
        return names, (f"languages {', '.join(names)} in this order: there is no {LANGUAGES_FILE}",)
    names = tuple(f"language{number}" for number in range(rows))
    return names, (f"languages are called {', '.join(names)}: there is no {LANGUAGES_FILE}",)


def _languages_in(path: Path, rows: int) -> tuple[str, ...]:
    table = parse_json(path, read_text(path, MOST_BYTES))
    valid = isinstance(table, Mapping) and all(type(number) is int for number in table.values())
    if not valid or sorted(table.values()) != list(range(rows)):
        raise CheckpointError(
            f"{path} contains {format_value(table)}; it should give each of the ids 0 to {rows - 1} to one "
            f"language, because the model has {rows} language embeddings. Pass the file of these weights."
        )
    return tuple(sorted(table, key=lambda name: table[name]))


def _with_languages_of_file(config: VITSConfig, path: Path) -> VITSConfig:
    """The configuration of an export, with the names of languages in the file beside it, if there is one."""
    if not config.languages or not path.is_file():
        return config
    try:
        return replace(config, languages=_languages_in(path, len(config.languages)))
    except ConfigError as failure:
        raise ConfigError(f"{path}: {failure}") from failure


def _symbols(settings: ReleasedSettings, rows: int, table_name: str, where: str) -> tuple[SymbolTable, tuple[str, ...]]:
    """The symbols in the configuration, or those of a release with as many."""
    if settings.symbols is not None:
        if settings.symbols.size != rows:
            raise CheckpointError(
                f"The characters in {table_name} are {settings.symbols.size} symbols, but the text encoder of {where} "
                f"has {rows}. Pass the configuration that belongs to the weights with --config."
            )
        return settings.symbols, ()
    for name, table in (("YourTTS", YOURTTS_SYMBOLS), ("the original VITS", VITS_SYMBOLS)):
        if table.size == rows:
            return table, (f"the {rows} symbols of {name}: the configuration does not state them",)
    raise CheckpointError(
        f"The {rows} symbols of {where} are unknown; pass a configuration with them (characters) with --config."
    )


def _config(
    sizes: Mapping[str, Any],
    settings: ReleasedSettings,
    decoder: GeneratorConfig,
    languages: tuple[str, ...],
    symbols: SymbolTable,
) -> VITSConfig:
    parts: dict[str, dict[str, Any]] = {}
    for name, value in {**sizes, **settings.fields}.items():
        part, _, last = name.rpartition(".")
        parts.setdefault(part, {})[last] = value
    own = parts[""]
    return VITSConfig(
        symbols=symbols,
        channels=own["channels"],
        text=TextEncoderConfig(**parts["text"]),
        posterior=WaveNetConfig(**parts["posterior"]),
        flow=WaveNetConfig(**parts["flow"]),
        flows=own["flows"],
        durations=DurationConfig(**parts["durations"]),
        decoder=decoder,
        speaker_channels=own["speaker_channels"],
        num_speakers=own["num_speakers"],
        languages=languages,
        language_channels=own["language_channels"] or 4,
        mel=settings.mel,
        segment_frames=own.get("segment_frames", 32),
        discriminators=replace(VITSConfig().discriminators, **parts.get("discriminators", {})),
        sampling=SamplingConfig(**parts.get("sampling", {})),
    )
