"""The configuration of a released RAVE: from the shapes of its tensors, and from the `config.gin` of its run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.rave.config import (
    BottleneckConfig,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    MelInputConfig,
    NoiseConfig,
    PQMFConfig,
    RaveConfig,
)
from jaxvoice.models.rave.released_layers import (
    DecoderShape,
    EncoderShape,
    Shape,
    layers_of,
    read_decoder,
    read_encoder,
)
from jaxvoice.models.rave.training_tensors import discriminators_of
from jaxvoice.models.rave.weights import DECODER_NET, ENCODER_NET
from jaxvoice.weights.gin_files import GinFile, GinReference

_ATTENUATIONS = (100, 70, 80, 90, 110, 120, *range(30, 161))  # the usual ones first
_DILATED = "aligned.branches.0.net.1"  # the dilated convolution of a residual block
_BOTTLENECKS = {
    "VariationalEncoder": "variational",
    "WasserteinEncoder": "wasserstein",
    "WassersteinEncoder": "wasserstein",
    "DiscreteEncoder": "discrete",
    "SphericalEncoder": "spherical",
}
_LARGEST = 10**9  # of numbers in config.gin
_SUPPORTED: Mapping[tuple[str, str], tuple[Any, ...]] = {
    ("Encoder", "sample_norm"): (False,),
    ("MelSpectrogram", "f_min"): (0,),
    ("MelSpectrogram", "power"): (2,),
    ("MelSpectrogram", "normalized"): (False,),
    ("MelSpectrogram", "center"): (True,),
    ("MelSpectrogram", "mel_scale"): ("htk",),
}
"""The only values of settings that do not follow from the tensors, if they are set."""
_NETS = {"v1": ("Encoder", "Generator"), "v2": ("EncoderV2", "GeneratorV2")}


@dataclass
class ReleasedConfig:
    """The configuration of a released model, and what was assumed."""

    config: RaveConfig
    assumed: list[str] = field(default_factory=list)


def released_config(
    shapes: Mapping[str, Shape],
    gin: GinFile | None,
    where: str,
    *,
    sample_rate: int | None = None,
    frame_length: int | None = None,
    dilations: Mapping[str, int] | None = None,
    padding: Literal["centered", "causal"] | None = None,
) -> ReleasedConfig:
    """The configuration of the model whose tensors have `shapes`, by their names without a prefix.

    **Arguments:** `gin`, the `config.gin` of the run; `where`, the name of the weight file; `sample_rate`, that of an
    export, if it is known; `frame_length`, the value of `target_size`; `dilations` of convolutions by name, and
    `padding`, which the code of an export contains.

    **Raises:** `CheckpointError` if the tensors are not those of a RAVE, or contradict `gin`; `ConfigError` for
    settings in `gin` that this implementation does not have.
    """
    return _Reader(shapes, gin, where, dilations or {}, padding).read(sample_rate, frame_length)


class _Reader:
    def __init__(
        self,
        shapes: Mapping[str, Shape],
        gin: GinFile | None,
        where: str,
        dilations: Mapping[str, int],
        padding: Literal["centered", "causal"] | None,
    ):
        self._shapes, self._gin, self._where = shapes, gin, where
        self._known_dilations, self._known_padding = dilations, padding
        self._encoder, self._decoder = read_encoder(shapes, where), read_decoder(shapes, where)
        self._assumed: list[str] = []

    def read(self, sample_rate: int | None, frame_length: int | None) -> ReleasedConfig:
        """The configuration."""
        encoder, decoder = self._encoder, self._decoder
        bottleneck = self._bottleneck()
        pqmf = self._pqmf()
        mel = self._mel()
        kind, output, n_channels = self._inputs(pqmf.num_bands, mel)
        outputs = n_channels * (pqmf.num_bands if output == "pqmf" else 1)
        modulation = decoder.version == "v2" and decoder.waveform == 2 * outputs
        if not modulation and decoder.waveform != outputs:
            raise self._wrong("output channels of the generator", decoder.waveform, f"{outputs} or {2 * outputs}")
        ratios = decoder.ratios if decoder.version == "v1" else decoder.ratios[::-1]
        self._check_sizes(encoder, decoder, ratios, n_channels)
        self._check_supported()
        config = RaveConfig(
            EncoderConfig(
                _version(encoder.version),
                kind,
                encoder.capacity,
                encoder.ratios,
                self._dilations("EncoderV2", ENCODER_NET, encoder.blocks) if encoder.version == "v2" else (),
                snake=encoder.snake,
                adain=encoder.adain,
                mel=mel,
            ),
            GeneratorConfig(
                _version(decoder.version),
                output,
                decoder.capacity,
                ratios,
                self._dilations("GeneratorV2", DECODER_NET, decoder.blocks)[::-1] if decoder.version == "v2" else (),
                snake=decoder.snake,
                adain=decoder.adain,
                amplitude_modulation=modulation or decoder.version == "v1",
                noise=self._noise(outputs, frame_length),
                recurrent_layers=decoder.recurrent_layers,
            ),
            bottleneck,
            self._discriminators(n_channels),
            pqmf,
            self._sample_rate(sample_rate),
            n_channels,
            self._padding(),
        )
        return ReleasedConfig(config, self._assumed)

    def _bottleneck(self) -> BottleneckConfig:
        encoder, decoder = self._encoder, self._decoder
        mean = self._shapes.get("latent_mean", (decoder.inputs,))
        if len(mean) != 1 or mean[0] < 1 or encoder.outputs % mean[0]:
            raise self._wrong("latent_mean", mean, f"(latents,), where latents divides {encoder.outputs}")
        size, noise = mean[0], decoder.inputs - mean[0]
        if noise < 0:
            raise self._wrong("input channels of the generator", decoder.inputs, f"at least the {size} latents")
        book = self._shapes.get("encoder.rvq.layers.0._codebook.embed")
        named = self._gin_value("RAVE", "encoder")
        if named is None:
            # The bindings of the bottleneck are those of its class.
            named = next((GinReference(name) for name in _BOTTLENECKS if self._has_bindings(name)), None)
        kind = None
        if named is not None:
            shown = named.name if isinstance(named, GinReference) else named
            kind = _BOTTLENECKS.get(str(shown).rpartition("/")[2].rpartition(".")[2])
            if kind is None:
                known = ", ".join(f"@blocks.{name}" for name in _BOTTLENECKS)
                raise self._unsupported("RAVE.encoder", shown, f"one of {known}")
        if book is not None:
            quantizers = sum(name.endswith("._codebook.embed") for name in self._shapes)
            if len(book) != 2 or book[1] != size:
                raise self._wrong("encoder.rvq.layers.0._codebook.embed", book, f"(codes, {size})")
            return BottleneckConfig("discrete", size, noise, quantizers, book[0])
        if encoder.outputs == 2 * size and not noise:
            kind = kind or "variational"
        elif kind is None:
            kind = "wasserstein" if noise else "spherical"
            if not noise:
                self._assumed.append("a spherical bottleneck: no config.gin names it")
        if encoder.outputs != size * (2 if kind == "variational" else 1):
            raise self._wrong("output channels of the encoder", encoder.outputs, f"those of {size} {kind} latents")
        return BottleneckConfig(_kind(kind), size, noise)

    def _pqmf(self) -> PQMFConfig:
        stored = (self._shapes.get(name, ()) for name in ("pqmf.hk", "pqmf.forward_conv.weight"))
        found = next((shape[0] for shape in stored if shape), None)
        attenuation = self._gin_number("CachedPQMF", "attenuation")
        bands = self._gin_whole("CachedPQMF", "n_band")
        if None not in (bands, found) and bands != found:
            raise self._conflict("CachedPQMF.n_band", bands, found)
        default = PQMFConfig()
        attenuated = default.attenuation if attenuation is None else float(attenuation)
        config = PQMFConfig(attenuated, found or bands or default.num_bands)
        taps = self._shapes.get("pqmf.h", ())
        if len(taps) != 1 or taps[0] == _prototype_taps(config):
            return config
        if attenuation is not None:
            raise self._conflict("CachedPQMF.attenuation", attenuation, f"a prototype of {taps[0]} taps")
        return self._attenuation_for(taps[0], config)

    def _attenuation_for(self, taps: int, config: PQMFConfig) -> PQMFConfig:
        """The configuration whose prototype has as many taps as that in the file."""
        candidates = (replace(config, attenuation=float(decibels)) for decibels in _ATTENUATIONS)
        found = next((one for one in candidates if _prototype_taps(one) == taps), None)
        if found is None:
            raise self._wrong("taps of pqmf.h", taps, "those of a filter bank with an attenuation of 30 to 160 dB")
        self._assumed.append(f"an attenuation of {found.attenuation:g} dB of the filter bank, from its length")
        return found

    def _mel(self) -> MelInputConfig:
        table = next((shape for name, shape in self._shapes.items() if name.endswith("mel_scale.fb")), None)
        hop = self._gin_whole("MelSpectrogram", "hop_length")
        size = self._gin_whole("MelSpectrogram", "n_fft")
        mels = self._gin_whole("MelSpectrogram", "n_mels")
        default = MelInputConfig()
        if table is not None and len(table) == 2:
            size, mels = 2 * (table[0] - 1), table[1]
        return MelInputConfig(size or default.n_fft, hop or default.hop_length, mels or default.num_mels)

    def _inputs(self, bands: int, mel: MelInputConfig) -> tuple[Any, Any, int]:
        """What the encoder reads, what the generator computes, and the number of audio channels."""
        reads = {"pqmf": (bands, bands), "mel": (mel.hop_length, mel.num_mels), "raw": (1, 1)}
        computes = {"pqmf": bands, "raw": 1}
        modes = self._mode("input"), self._mode("output")
        encoder, decoder = math.prod(self._encoder.ratios), math.prod(self._decoder.ratios)
        channels = self._gin_whole("RAVE", "n_channels") or None
        for kind, (step, width) in reads.items():
            for output, length in computes.items():
                count, rest = divmod(self._encoder.inputs, width)
                wave = self._decoder.waveform // (count * length) if count else 0
                if (
                    modes[0] in (None, kind)
                    and modes[1] in (None, output)
                    and step * encoder == length * decoder
                    and not rest
                    and wave in (1, 2)
                    and wave * count * length == self._decoder.waveform
                    and channels in (None, count)
                ):
                    return kind, output, count
        found = f"{self._encoder.inputs} input channels and the ratios {self._encoder.ratios}"
        settings = (
            f" with n_channels={channels}, input {modes[0]} and output {modes[1]} in config.gin" if self._gin else ""
        )
        raise CheckpointError(
            f"The encoder in {self._where} has {found}, and the generator {self._decoder.waveform} output channels and "
            f"the ratios {self._decoder.ratios}; they should have the same hop length{settings}. Pass the config.gin "
            "that belongs to the weights with --config."
        )

    def _mode(self, side: str) -> str | None:
        """The mode of the encoder's input or of the generator's output in config.gin, by any of its names."""
        mode = self._gin_value("RAVE", f"{side}_mode")
        if mode is not None:
            known = ("pqmf", "raw", "mel") if side == "input" else ("pqmf", "raw")
            if mode not in known:
                raise self._unsupported(f"RAVE.{side}_mode", mode, f"one of {', '.join(map(repr, known))}")
            return mode
        if side == "input" and self._gin_value("RAVE", "is_mel_input") is True:
            return "mel"
        flag = self._gin_value("RAVE", f"enable_pqmf_{'encode' if side == 'input' else 'decode'}")
        return None if not isinstance(flag, bool) else "pqmf" if flag else "raw"

    def _check_sizes(
        self, encoder: EncoderShape, decoder: DecoderShape, ratios: tuple[int, ...], n_channels: int
    ) -> None:
        """Raise `CheckpointError` for sizes in config.gin that are not those of the tensors."""
        size = self._shapes.get("latent_mean", (decoder.inputs,))[0]
        checks: list[tuple[str, str, Any]] = [("RAVE", "latent_size", size), ("RAVE", "n_channels", n_channels)]
        owners = _NETS[encoder.version][0], _NETS[decoder.version][1]
        checks += [(owners[0], "capacity", encoder.capacity), (owners[0], "ratios", list(encoder.ratios))]
        checks += [(owners[1], "capacity", decoder.capacity), (owners[1], "ratios", list(ratios))]
        for owner, name, value in checks:
            given = self._gin_value(owner, name)
            # The command line of the release writes 0 channels, or none.
            if given is not None and given != value and not (name == "n_channels" and given == 0):
                raise self._conflict(f"{owner}.{name}", given, value)

    def _dilations(self, owner: str, net: str, blocks: Sequence[int]) -> tuple[tuple[int, ...], ...]:
        """The dilations of the residual blocks of each stage, in the order of the file."""
        names = (
            f"{net}.{layer.index}.{_DILATED}" for layer in layers_of(self._shapes, net) if layer.kind == "residual"
        )
        known = [self._known_dilations.get(name) for name in names]
        in_code = None
        if known and all(known):
            values = iter(known)
            in_code = tuple(tuple(next(values) or 1 for _ in range(count)) for count in blocks)
        given = self._gin_value(owner, "dilations")
        if given is None:
            if in_code is None:
                self._assumed.append(f"the dilations of the residual blocks of {owner}: powers of 3")
            return in_code or tuple(tuple(3**i for i in range(count)) for count in blocks)
        stages = given if isinstance(given, list) and any(isinstance(stage, list) for stage in given) else None
        stages = [given] * len(blocks) if stages is None else stages[:: -1 if net == DECODER_NET else 1]
        if [len(stage) if isinstance(stage, list) else None for stage in stages] != list(blocks):
            raise self._conflict(f"{owner}.dilations", given, f"lists of {list(blocks)}")
        dilations = tuple(tuple(stage) for stage in stages)
        if in_code not in (None, dilations):
            raise self._conflict(f"{owner}.dilations", list(dilations), list(in_code or ()), "code")
        return dilations

    def _noise(self, outputs: int, frame_length: int | None) -> NoiseConfig | None:
        decoder = self._decoder
        given = self._gin_value("NoiseGenerator" if decoder.version == "v1" else "NoiseGeneratorV2", "ratios")
        if not decoder.noise or given is None:
            if decoder.noise and decoder.version == "v1" and frame_length is None:
                self._assumed.append("the largest strides of the noise branch that the ratios allow")
            return decoder.noise_config(outputs, frame_length, self._where)
        whole = isinstance(given, list) and all(type(ratio) is int and ratio > 0 for ratio in given)
        ratios = tuple(given) if whole else ()
        of_frame = decoder.version == "v2" or frame_length in (None, math.prod(ratios))
        if len(ratios) != len(decoder.noise) or not of_frame:
            found = f"{len(decoder.noise)} convolutions for {frame_length or 'unknown'} samples"
            raise self._conflict("NoiseGenerator.ratios", given, found)
        config = decoder.noise_config(outputs, frame_length, self._where, ratios=ratios)
        if config is not None and config.ratios != ratios:
            raise self._conflict("NoiseGeneratorV2.ratios", given, list(config.ratios))
        return config

    def _discriminators(self, channels: int) -> DiscriminatorConfig:
        found = discriminators_of(self._shapes, channels)
        if found is not None:
            return found
        if self._encoder.version == "v1" and self._decoder.version == "v1":
            return DiscriminatorConfig("scale", capacity=self._encoder.capacity)
        plain = DiscriminatorConfig(capacity=self._encoder.capacity)
        text = "" if self._gin is None else str(self._gin.bindings).lower()
        if "descript" in text:
            return replace(plain, kind="descript", fft_sizes=(2048, 1024, 512))
        return replace(plain, kind="spectral") if "multiscalespectral" in text else plain

    def _sample_rate(self, known: int | None) -> int:
        given = self._gin_value("RAVE", "sampling_rate")
        if given is None and self._gin is not None:
            given = self._gin.macros.get("SAMPLING_RATE")
        given = None if given is None else self._whole("RAVE.sampling_rate", given)
        # The rate that an export with a resampler states may be that of the host.
        resamples = any(name.startswith("resampler.") for name in self._shapes)
        if known is not None and (given is None or not resamples):
            if given not in (None, known):
                raise self._conflict("RAVE.sampling_rate", given, known, "attributes")
            if resamples:
                self._assumed.append(f"a sample rate of {known} Hz, which the export states: it contains a resampler")
            return known
        if given is None:
            self._assumed.append("a sample rate of 44100 Hz: pass config.gin with --config for another one")
        return 44100 if given is None else given

    def _padding(self) -> Any:
        known = self._known_padding
        if self._gin is None:
            if known is None:
                self._assumed.append("centered padding")
            return known or "centered"
        mode = self._gin_value("get_padding", "mode")
        if mode not in (None, "centered", "causal"):
            raise self._unsupported("get_padding.mode", mode, "'centered' or 'causal'")
        if known not in (None, mode or "centered"):
            raise self._conflict("get_padding.mode", mode or "centered", known, "code")
        return mode or "centered"

    def _check_supported(self) -> None:
        """Raise `ConfigError` for settings in config.gin that change results and that this implementation lacks."""
        for owner in ("EncoderV2", "GeneratorV2", "NoiseGeneratorV2"):
            value = self._gin_value(owner, "activation")
            # Whether it is Snake is decided by the tensors.
            if value is not None and not (isinstance(value, GinReference) and value.name.endswith("Snake")):
                shown = f"@{value.name}" if isinstance(value, GinReference) else value
                raise self._unsupported(f"{owner}.activation", shown, "@blocks.Snake or missing")
        for (owner, name), values in _SUPPORTED.items():
            value = self._gin_value(owner, name)
            if value is not None and value not in values:
                raise self._unsupported(f"{owner}.{name}", value, " or ".join(map(repr, values)))

    def _gin_value(self, owner: str, name: str) -> Any:
        return None if self._gin is None else self._gin.value(owner, name)

    def _gin_number(self, owner: str, name: str) -> Any:
        value = self._gin_value(owner, name)
        valid = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
        if value is not None and not valid:
            raise self._unsupported(f"{owner}.{name}", value, "a number")
        return value

    def _gin_whole(self, owner: str, name: str) -> int | None:
        value = self._gin_value(owner, name)
        return None if value is None else self._whole(f"{owner}.{name}", value)

    def _whole(self, name: str, value: Any) -> int:
        valid = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
        if not valid or value != int(value):
            raise self._unsupported(name, value, "a whole number")
        return int(value)

    def _has_bindings(self, owner: str) -> bool:
        names = () if self._gin is None else self._gin.bindings
        return any(f".{name.rpartition('.')[0]}".endswith(f".{owner}") for name in names)

    def _wrong(self, what: str, value: Any, expected: str) -> CheckpointError:
        return CheckpointError(
            f"The {what} in {self._where} are {format_value(value)}; they should be {expected}. Download the file "
            "again."
        )

    def _unsupported(self, name: str, value: Any, expected: str) -> ConfigError:
        place = self._gin.where if self._gin else "config.gin"
        return ConfigError(
            f"{name} in {place} is {format_value(value)}; it should be {expected}. Pass the config.gin that belongs to "
            "the weights with --config."
        )

    def _conflict(self, name: str, given: Any, found: Any, parts: str = "tensors") -> CheckpointError:
        place = self._gin.where if self._gin else "config.gin"
        return CheckpointError(
            f"{name} is {format_value(given)} in {place}, but the {parts} of {self._where} "
            f"{'has' if parts == 'code' else 'have'} {format_value(found)}. Pass the config.gin that belongs to "
            "the weights with --config."
        )


def _prototype_taps(config: PQMFConfig) -> int:
    """Taps of the prototype of a filter bank. The bank of the release is known, since scipy takes time to import."""
    if config == PQMFConfig():
        return 377
    from jaxvoice.dsp.pqmf import pqmf_prototype

    return pqmf_prototype(config.attenuation, config.num_bands).size


def _version(text: str) -> Any:
    return text


def _kind(text: str) -> Any:
    return text
