"""The Conformer's weights: names and shapes, and the settings of NeMo's configuration. Does not import jax."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxvoice.config import format_value, to_dict
from jaxvoice.dsp.mel_config import NemoMelConfig
from jaxvoice.errors import CheckpointError, ConfigError
from jaxvoice.models.conformer.config import ConformerConfig
from jaxvoice.weights.foreign_settings import Settings
from jaxvoice.weights.mismatches import format_name
from jaxvoice.weights.rules import Ignore, Rule

NAME = "conformer"
COUNT = "num_batches_tracked"

Shapes = dict[str, tuple[int, ...]]

_LONGEST_WINDOW = 10.0  # seconds
_LIGHTNING = "state_dict."  # the place of the weights in checkpoints of Lightning, beside the state of training
_MARKS = ("pre_encode.out.weight", "layers.0.self_attn.linear_q.weight")
_PARTS = ("encoder", "decoder", "ctc_decoder", "joint", "preprocessor", "spec_augmentation", "loss", "wer", "ctc_wer")
_ENCODER_PARTS = ("pre_encode", "layers", "pos_enc")


def encoder_shapes(config: ConformerConfig) -> Shapes:
    """Shape of every array of a `ConformerEncoder` with its running statistics, in the order of torch's state dict."""
    dim, hidden, channels = config.dim, config.feed_forward, config.subsampling_channels
    shapes = _linear("pre_encode.out", dim, channels * -(-config.mel.num_mels // 4))
    shapes |= {"pre_encode.conv.0.weight": (channels, 1, 3, 3), "pre_encode.conv.0.bias": (channels,)}
    shapes |= {"pre_encode.conv.2.weight": (channels, channels, 3, 3), "pre_encode.conv.2.bias": (channels,)}
    for i in range(config.layers):
        at = f"layers.{i}"
        feed_forward = _linear("linear1", hidden, dim) | _linear("linear2", dim, hidden)
        shapes |= _norm(f"{at}.norm_feed_forward1", dim) | _below(f"{at}.feed_forward1", feed_forward)
        convolution = {
            **{"pointwise_conv1.weight": (2 * dim, dim, 1), "pointwise_conv1.bias": (2 * dim,)},
            **{"depthwise_conv.weight": (dim, 1, config.kernel_size), "depthwise_conv.bias": (dim,)},
            **_norm("batch_norm", dim),
            **{"batch_norm.running_mean": (dim,), "batch_norm.running_var": (dim,), f"batch_norm.{COUNT}": ()},
            **{"pointwise_conv2.weight": (dim, dim, 1), "pointwise_conv2.bias": (dim,)},
        }
        shapes |= _norm(f"{at}.norm_conv", dim) | _below(f"{at}.conv", convolution)
        bias = (config.heads, dim // config.heads)
        attention: Shapes = {"pos_bias_u": bias, "pos_bias_v": bias}
        for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
            attention |= _linear(name, dim, dim)
        attention |= {"linear_pos.weight": (dim, dim)}
        shapes |= _norm(f"{at}.norm_self_att", dim) | _below(f"{at}.self_attn", attention)
        shapes |= _norm(f"{at}.norm_feed_forward2", dim) | _below(f"{at}.feed_forward2", feed_forward)
        shapes |= _norm(f"{at}.norm_out", dim)
    return shapes


def conformer_shapes(config: ConformerConfig) -> Shapes:
    """Shape of every array of a `Conformer` with its running statistics, by name."""
    shapes = _below("encoder", encoder_shapes(config))
    if config.classes is not None:
        shapes |= {"decoder.decoder_layers.0.weight": (config.classes, config.dim, 1)}
        shapes |= {"decoder.decoder_layers.0.bias": (config.classes,)}
    return shapes


def dtypes(names: Iterable[str]) -> dict[str, np.dtype]:
    """The types of the arrays in `names` that are not float32."""
    return {name: np.dtype(np.int32) for name in names if name.endswith(f".{COUNT}")}


def _below(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _linear(name: str, out: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (out, inputs), f"{name}.bias": (out,)}


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


_DECODER = "decoder_layers.0.{part*}"
_OF_MODEL = (
    Rule("encoder.{path*}", "encoder.{path*}"),
    Rule(f"decoder.{_DECODER}", f"decoder.{_DECODER}"),
    Rule(f"ctc_decoder.{_DECODER}", f"decoder.{_DECODER}"),
)
_OF_ENCODER = (Rule("{path*}", "encoder.{path*}"),)
EXPORT_RULES = (*_OF_MODEL, *_OF_ENCODER)
"""The rules of all layouts, of which an export uses those that lead to the names of its layout."""


@dataclass(frozen=True)
class Place:
    """The position of an encoder in a file."""

    prefix: str
    """The prefix of the tensors of the model, or of the encoder if the file contains only an encoder."""
    whole: bool
    """Whether the file contains a model with an encoder, not only an encoder."""
    head: str | None
    """The name of the CTC decoder, with the prefix; `None` if there is none."""

    @property
    def encoder(self) -> str:
        """The prefix of the tensors of the encoder."""
        return f"{self.prefix}encoder." if self.whole else self.prefix

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules for the tensors below `prefix`."""
        return _OF_MODEL if self.whole else _OF_ENCODER

    def ignored(self) -> tuple[Ignore, ...]:
        """The tensors that are not imported."""
        at = re.escape(self.prefix)
        transducer = "prediction or joint network of the transducer: only the encoder and a CTC decoder are imported"
        return (
            Ignore(rf"{at}preprocessor\..*", "constant of the front end, which the configuration determines"),
            Ignore(rf"{re.escape(self.encoder)}pos_enc\..*", "table of positions, which is computed"),
            Ignore(rf"{at}(decoder\.prediction|joint)\..*", transducer),
            Ignore(rf"{at}(loss|wer|ctc_wer|spec_augmentation)\..*", "bookkeeping of training"),
            *([Ignore(rf"(?!{at}).*", "state of training")] if self.prefix == _LIGHTNING else []),
        )


def find_encoder(names: Iterable[str]) -> Place | None:
    """The encoder in a file with tensors of these names; `None` unless all tensors belong to one model with it."""
    names = list(names)
    known = set(names)
    prefixes = [name.removesuffix(_MARKS[0]) for name in names if name.endswith(_MARKS[0])]
    if len(prefixes) != 1 or prefixes[0] + _MARKS[1] not in known:
        return None
    whole = prefixes[0].endswith("encoder.")
    prefix = prefixes[0].removesuffix("encoder.") if whole else prefixes[0]
    parts = _PARTS if whole else _ENCODER_PARTS
    if prefix == _LIGHTNING:
        names = [name for name in names if name.startswith(prefix)]
    if not all(name.startswith(tuple(f"{prefix}{part}." for part in parts)) for name in names):
        return None
    heads = [f"{prefix}{name}" for name in ("decoder", "ctc_decoder")]
    head = next((name for name in heads if f"{name}.decoder_layers.0.weight" in known), None)
    return Place(prefix, whole, head)


def geometry(shapes: Mapping[str, tuple[int, ...]], prefix: str, where: str) -> dict[str, int]:
    """The sizes of the encoder below `prefix`, by the names of `ConformerConfig`, and `bands` of the subsampling.

    **Raises:** `CheckpointError` for encoders of another kind.
    """
    if f"{prefix}pre_encode.conv.3.weight" in shapes:
        raise CheckpointError(
            f"{where} contains an encoder with another subsampling than two convolutions, such as Fast Conformer's "
            "(depthwise-separable, factor 8); the subsampling should be striding with factor 4. It is not imported."
        )

    def size(name: str, axis: int, rank: int) -> int:
        shape = shapes.get(prefix + name)
        if shape is None or len(shape) != rank:
            found = "is missing" if shape is None else f"has shape {shape}"
            raise CheckpointError(
                f"{format_name(prefix + name)} {found} in {where}; it should have {rank} axes. The encoder should be a "
                "Conformer of NeMo with relative positions, biases, and batch norm."
            )
        return shape[axis]

    numbers = [
        int(found[1]) for name in shapes if (found := re.match(re.escape(prefix) + r"layers\.(\d{1,4})\.", name))
    ]
    channels = size("pre_encode.conv.0.weight", 0, 4)
    sizes = {
        "layers": 1 + max(numbers),
        "dim": size("pre_encode.out.weight", 0, 2),
        "heads": size("layers.0.self_attn.pos_bias_u", 0, 2),
        "feed_forward": size("layers.0.feed_forward1.linear1.weight", 0, 2),
        "kernel_size": size("layers.0.conv.depthwise_conv.weight", 2, 3),
        "subsampling_channels": channels,
    }
    return {**sizes, "bands": size("pre_encode.out.weight", 1, 2) // max(channels, 1)}


@dataclass(frozen=True)
class NemoSettings:
    """The settings in a configuration of NeMo."""

    sizes: Mapping[str, tuple[str, int]]
    """Sizes by the names of `ConformerConfig`, each with its name in the file."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of `ConformerConfig`."""
    symbols: tuple[str, ...] = ()
    """The vocabulary of a CTC decoder, without the blank."""
    version: str | None = None
    """The release of NeMo that wrote the file."""


def nemo_table(table: Any) -> Mapping[str, Any] | None:
    """The part of a configuration with the settings of a NeMo model; `None` if there is none."""
    for found in (table, table.get("model") if isinstance(table, Mapping) else None):
        if isinstance(found, Mapping) and isinstance(found.get("encoder"), Mapping) and "d_model" in found["encoder"]:
            return found
    return None


def read_nemo_settings(table: Mapping[str, Any]) -> NemoSettings:
    """Read NeMo's `examples/asr/conf/conformer`, and the `model_config.yaml` in a `.nemo` file.

    **Raises:** `ConfigError`, which names the option, for encoders and front ends that are not supported.
    """
    settings = Settings(table)
    encoder = settings.table("encoder")
    _check_options(encoder)
    dim = encoder.integer("d_model")
    channels = encoder.integer("subsampling_conv_channels", -1, low=-1)
    stated = {
        "layers": ("n_layers", encoder.integer("n_layers")),
        "dim": ("d_model", dim),
        "heads": ("n_heads", encoder.integer("n_heads", 4)),
        "feed_forward": ("ff_expansion_factor", dim * encoder.integer("ff_expansion_factor", 4)),
        "kernel_size": ("conv_kernel_size", encoder.integer("conv_kernel_size", 31)),
        "subsampling_channels": ("subsampling_conv_channels", dim if channels == -1 else channels),
    }
    mel = read_front_end(settings.optional_table("preprocessor"))
    bands = encoder.integer("feat_in", mel.num_mels)
    if bands != mel.num_mels:
        raise ConfigError(
            f"encoder.feat_in is {bands} and preprocessor.features is {mel.num_mels}; they should be equal."
        )
    fields = {
        "mel": mel,
        "xscaling": encoder.boolean("xscaling", True),
        "dropout": encoder.number("dropout", 0.1, above=-1),
        "attention_dropout": encoder.number("dropout_att", 0.0, above=-1),
    }
    found, version = re.match(r"([0-9]{1,4})\.([0-9]{1,4})[0-9A-Za-z.]{0,16}", str(table.get("nemo_version"))), None
    if found is not None:
        version = found[0]
        fields["nemo_release"] = "2.6" if (int(found[1]), int(found[2])) >= (2, 5) else "1.7"
    return NemoSettings(stated, fields, _vocabulary(table), version)


def _check_options(encoder: Settings) -> None:
    """Raise `ConfigError` for options of NeMo's `ConformerEncoder` that change the network in ways not supported."""
    supported: dict[str, tuple[Any, ...]] = {
        "subsampling": ("striding",),
        "subsampling_factor": (4,),
        "causal_downsampling": (False,),
        "reduction": (None,),
        "self_attention_model": ("rel_pos",),
        "att_context_size": ([-1, -1], None),
        "att_context_style": ("regular", None),
        "untie_biases": (True,),
        "use_bias": (True,),
        "conv_norm_type": ("batch_norm",),
        "feat_out": (-1, encoder.value("d_model")),
    }
    for name, values in supported.items():
        given = encoder.value(name)
        if name in encoder and given not in values:
            expected = " or ".join(format_value(value) for value in values if value is not None) or "null"
            raise ConfigError(
                f"encoder.{name} is {format_value(given)}; it should be {expected}. Encoders with other values are not "
                "supported."
            )
    kernel, context = encoder.integer("conv_kernel_size", 31), encoder.value("conv_context_size")
    if context not in (None, [kernel // 2] * 2):
        raise ConfigError(
            f"encoder.conv_context_size is {format_value(context)}; it should be null, because causal convolutions are "
            "not supported."
        )


def read_front_end(table: Settings) -> NemoMelConfig:
    """The front end of NeMo's `AudioToMelSpectrogramPreprocessor`.

    **Raises:** `ConfigError`, which names the option, for front ends that are not supported.
    """
    supported: dict[str, tuple[Any, ...]] = {
        "normalize": ("per_feature",),
        "window": ("hann",),
        "log": (True,),
        "log_zero_guard_type": ("add",),
        "mag_power": (2, 2.0),
        "frame_splicing": (1,),
        "mel_norm": ("slaney",),
        "exact_pad": (False,),
        "use_grads": (False,),
    }
    for name, values in supported.items():
        absent = name not in table and not (name == "normalize" and name in set(table))
        if not absent and table.value(name) not in values:
            raise ConfigError(
                f"preprocessor.{name} is {format_value(table.value(name))}; it should be {format_value(values[0])}. "
                "Front ends with other values are not supported."
            )
    rate = table.integer("sample_rate", 16000)
    window = table.integer(
        "n_window_size", int(table.number("window_size", 0.025, above=0, most=_LONGEST_WINDOW) * rate)
    )
    hop = table.integer(
        "n_window_stride", int(table.number("window_stride", 0.01, above=0, most=_LONGEST_WINDOW) * rate)
    )
    return NemoMelConfig(
        sample_rate=rate,
        n_fft=table.integer("n_fft", 2 ** math.ceil(math.log2(window))),
        hop_length=hop,
        win_length=window,
        num_mels=table.integer("features", 80),
        fmin=table.number("lowfreq", 0.0),
        fmax=table.number("highfreq") if "highfreq" in table else None,
        # NeMo's default is 0.97, and null turns the pre-emphasis off.
        preemphasis=table.number("preemph") if "preemph" in table else 0.0 if "preemph" in set(table) else 0.97,
        log_guard=table.number("log_zero_guard_value", 2.0**-24, above=0),
    )


def _vocabulary(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The symbols of the CTC decoder; empty if they are missing, repeated or empty."""
    decoder, hybrid = table.get("decoder"), table.get("aux_ctc")
    places = [decoder, hybrid.get("decoder") if isinstance(hybrid, Mapping) else None, table]
    for place, name in ((place, name) for place in places for name in ("vocabulary", "labels")):
        found = place.get(name) if isinstance(place, Mapping) else None
        if isinstance(found, list) and found and all(isinstance(one, str) and one for one in found):
            return tuple(found) if len(set(found)) == len(found) else ()
    return ()


def nemo_config(config: ConformerConfig) -> dict[str, Any]:
    """The `model_config.yaml` of NeMo for a model, as JSON values; empty if `feed_forward` cannot be expressed."""
    mel = config.mel
    if config.feed_forward % config.dim:
        return {}
    table = {
        "sample_rate": mel.sample_rate,
        "nemo_version": "1.7.2" if config.nemo_release == "1.7" else "2.6.0",
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": mel.sample_rate,
            "normalize": "per_feature",
            "n_window_size": mel.win_length,
            "n_window_stride": mel.hop_length,
            "window_size": None,
            "window_stride": None,
            "window": "hann",
            "features": mel.num_mels,
            "n_fft": mel.n_fft,
            "lowfreq": mel.fmin,
            "highfreq": mel.fmax,
            "preemph": mel.preemphasis,
            "log_zero_guard_value": mel.log_guard,
            "frame_splicing": 1,
            "dither": 0.0,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": mel.num_mels,
            "feat_out": -1,
            "n_layers": config.layers,
            "d_model": config.dim,
            "subsampling": "striding",
            "subsampling_factor": 4,
            "subsampling_conv_channels": config.subsampling_channels,
            "ff_expansion_factor": config.feed_forward // config.dim,
            "self_attention_model": "rel_pos",
            "n_heads": config.heads,
            "att_context_size": [-1, -1],
            "xscaling": config.xscaling,
            "untie_biases": True,
            "conv_kernel_size": config.kernel_size,
            "conv_norm_type": "batch_norm",
            "dropout": config.dropout,
            "dropout_att": config.attention_dropout,
        },
    }
    if config.classes is not None:
        table["decoder"] = {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": config.dim,
            "num_classes": config.classes if config.blank is None and config.symbols else config.classes - 1,
            "vocabulary": list(config.symbols),
        }
    return table


_NOT_IDENTITY = ("classes", "symbols", "dropout", "attention_dropout")


def content_identity(arrays: Mapping[str, Any], config: ConformerConfig) -> str:
    """A SHA-256 in hexadecimal digits that identifies the content features of a model.

    It depends on the weights of the encoder with its running statistics, and on the configuration without the
    recogniser and the dropout rates. Store it with cached features.

    **Arguments:** `arrays`, those of a `Conformer` with its running statistics, by name; `config`, its configuration.

    **Raises:** `CheckpointError` if an array of the encoder is missing or has another shape.
    """
    settings = {name: value for name, value in to_dict(config).items() if name not in _NOT_IDENTITY}
    digest = hashlib.sha256(json.dumps({"family": NAME, "config": settings}, sort_keys=True).encode())
    for name, shape in sorted(_below("encoder", encoder_shapes(config)).items()):
        if name.endswith(COUNT):
            continue
        array = None if name not in arrays else np.asarray(arrays[name])
        if array is None or array.shape != shape:
            found = "is missing" if array is None else f"has shape {array.shape}"
            raise CheckpointError(f"{format_name(name)} {found}; it should have shape {shape}. Pass stored arrays.")
        digest.update(f"\n{name} {shape} ".encode())
        digest.update(np.ascontiguousarray(array, "<f4").tobytes())
    return digest.hexdigest()
