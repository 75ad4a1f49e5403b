"""Recordings through a network that is bent while it runs: what the panel of `jaxvoice panel` computes."""

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxvoice.config import format_value
from jaxvoice.data.audio import audio_info, read_channels
from jaxvoice.dissect import Bend, BendingConfig, Control, bend, named_values, tag
from jaxvoice.dissect.patterns import full_match, nearest
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.pipelines.recordings import recording_rate
from jaxvoice.pipelines.sources import find_model_with_method
from jaxvoice.weights import named_arrays

_COMPILED = 8  # programs that are kept, the last ones used

Kind = Literal["weights", "activations"]


class NetworkPipeline(Protocol):
    """A pipeline whose network computes audio from a recording in one pure function."""

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        ...

    @property
    def network_function(self) -> Callable[..., Float[Array, "samples channels"]]:
        """A function `function(network, *inputs)` of a network as model folders contain it, and of `network_inputs`.

        It returns audio at `sample_rate`, at least as long as the recording, and can be traced by JAX.
        """
        ...

    def network_inputs(
        self, audio: Float32[np.ndarray, "channels samples"], sample_rate: int, *, seed: int = 0
    ) -> tuple[Array, ...]:
        """The arrays that `network_function` takes for a recording; `seed` draws the noise among them."""
        ...


class NamedArray(NamedTuple):
    """A weight or an activation that a rule can change."""

    name: str
    """Its name."""
    kind: Kind
    """Which of both it is."""
    shape: tuple[int, ...]
    """Its shape. Activations are those for a recording of one second."""


@dataclass(frozen=True)
class Source:
    """A recording as the inputs of a network."""

    inputs: tuple[Array, ...]
    """What the network takes."""
    samples: int
    """Samples of the output that belong to the recording; the rest is padding."""
    seconds: float
    """Duration of the whole recording."""
    is_cut: bool
    """Whether the end of the recording is left out, because it is too long."""


class Bender:
    """A network with rules that bend it, for recordings of a limited length.

    A change of rules compiles a program for each length in whole seconds. A change of controls compiles none.

    ```python
    bender = Bender.load("percussion")
    source = bender.read("voice.wav")
    config = BendingConfig((Bend(Scale(Control("gain", low=-2, high=2)), "decoder.net.5"),))
    plain, bent = bender.play(source), bender.play(source, config, {"gain": -1.0})  # (samples, channels)
    ```

    **Attributes:** `pipeline`; `network`, with the names of its model folder; `names`, all that rules can change.
    """

    def __init__(self, pipeline: NetworkPipeline, network: Any, *, merged: tuple[str, ...] = (), seconds: float = 10.0):
        """**Arguments:** `pipeline`; its `network` as model folders contain it; `merged`, as `Family.merged`;
        `seconds`, of a recording that are used at most. Memory grows with it.

        **Raises:** `ConfigError` unless `seconds` is a positive number.
        """
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not math.isfinite(seconds) or seconds <= 0:
            raise ConfigError(f"seconds is {format_value(seconds)}; it should be a positive number (--seconds).")
        self.pipeline, self.network, self.seconds = pipeline, network, float(seconds)
        self._merged, self._function = merged, pipeline.network_function
        self._compiled: OrderedDict[BendingConfig, Callable[..., Any]] = OrderedDict()
        rate = pipeline.sample_rate
        silence = pipeline.network_inputs(np.zeros((1, rate), np.float32), rate)
        arrays = named_arrays(network, merged=merged)
        values = named_values(lambda model, *args: self._function(tag(model, merged=merged), *args), network, *silence)
        self.names = [
            *(NamedArray(value.name, "activations", value.shape) for value in values if not value.in_loop),
            *(
                NamedArray(name, "weights", array.shape)
                for name, array in arrays.items()
                if jnp.issubdtype(array.dtype, jnp.floating)
            ),
        ]

    @classmethod
    def load(cls, path: str | Path, *, seconds: float = 10.0) -> "Bender":
        """Load the model at `path`: a model folder, a run folder (its best model), or a Hub id `owner/name`.

        **Raises:** `ConfigError` for a model whose pipeline has no `network_function`; `CheckpointError` or
        `ConfigError` for a missing or damaged model; `MissingExtraError` for a Hub id without the extra `hub`.
        """
        expected = "a model that computes audio from a recording in one network, such as a vocoder or a RAVE"
        folder, family = find_model_with_method(path, "network_function", expected)
        network, _ = family.load_network(folder)
        return cls(family.load_pipeline(path), network, merged=family.merged, seconds=seconds)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.pipeline.sample_rate

    def matches(self, pattern: str, kind: Kind | None = None) -> list[NamedArray]:
        """What a rule with this pattern changes; `kind` restricts it to weights or to activations.

        **Raises:** `ConfigError` for an invalid regular expression, and if nothing matches, with the nearest names.
        """
        accepts, known = full_match(pattern), [row for row in self.names if kind in (None, row.kind)]
        found = [row for row in known if accepts(row.name)]
        if not found:
            what = {"weights": "weight", "activations": "activation", None: "weight or activation"}[kind]
            names = [row.name for row in known]
            raise ConfigError(f"No {what} has a name that matches {pattern!r}; {nearest(pattern, names)}.")
        return found

    def read(self, audio: Any, sample_rate: int | None = None, *, seed: int = 0) -> Source:
        """A recording as inputs of the network, at most `seconds` of it, padded with silence to whole seconds.

        The rest of a longer file is not decoded.

        **Arguments:** `audio`, the path of a file, or floats `(channels, samples)` at `sample_rate` (Hz); `seed`, of
        the noise that the network takes, if it takes any.

        **Raises:** `AudioError` for a file that cannot be read, another shape, integers, no samples, NaN, an invalid
        sample rate, or channels that the model cannot take; `ConfigError` for an invalid seed.
        """
        if sample_rate is None:
            kept, rate = read_channels(audio, seconds=self.seconds)
            total = max(kept.shape[1], audio_info(audio).frames)
        else:
            samples, rate = np.asarray(audio), recording_rate(sample_rate, None)
            if samples.ndim != 2 or not jnp.issubdtype(samples.dtype, jnp.floating):
                raise AudioError(
                    f"The audio has shape {samples.shape} and type {samples.dtype}; it should be floats of shape "
                    "(channels, samples) with full scale at 1. Divide 16-bit integers by 32768."
                )
            samples = samples.astype(np.float32)
            kept, total = samples[:, : max(1, round(self.seconds * rate))], samples.shape[1]
        padding = -kept.shape[1] % rate
        inputs = self.pipeline.network_inputs(np.pad(kept, ((0, 0), (0, padding))), rate, seed=seed)
        count = -(-kept.shape[1] * self.sample_rate // rate)
        return Source(inputs, count, total / rate, kept.shape[1] < total)

    def play(
        self, source: Source, config: BendingConfig | None = None, values: Mapping[str, Any] | None = None
    ) -> Float32[np.ndarray, "samples channels"]:
        """The audio of a recording through the network, bent by the rules of `config`.

        **Arguments:** `values` of the controls by name; those that are missing have their defaults.

        **Raises:** `ConfigError` for rules that match nothing, and invalid values; `ShapeError` for an operation that
        does not fit an array; `AudioError` if the audio contains NaN or infinity.
        """
        config = BendingConfig() if config is None else config
        given = config.values(values)
        if config not in self._compiled:
            self._compiled[config] = eqx.filter_jit(bend(self._function, config, merged=self._merged))
            while len(self._compiled) > _COMPILED:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(config)  # the last one used
        found = self._compiled[config](self.network, *source.inputs, controls=given)
        audio = np.asarray(found, np.float32)[: source.samples]
        if not np.isfinite(audio).all():
            raise AudioError(
                "The audio contains NaN or infinity; it should be finite. Move the controls closer to their first "
                "values, or remove the last rule."
            )
        return audio


def with_defaults(config: BendingConfig, values: Mapping[str, Any]) -> BendingConfig:
    """`config` whose controls have the given values as their defaults, so that a file contains the values.

    **Raises:** `ConfigError` for unknown names or values outside the range of a control.
    """
    numbers = {name: float(value) for name, value in config.values(values).items()}

    def changed(number: Any) -> Any:
        if isinstance(number, Control):
            return replace(number, default=numbers[number.name])
        return tuple(map(changed, number)) if isinstance(number, tuple) else number

    def rule(one: Bend) -> Bend:
        operation: Any = one.operation
        changes = {field.name: changed(getattr(operation, field.name)) for field in fields(operation)}
        return replace(one, operation=replace(operation, **changes), amount=changed(one.amount))

    return BendingConfig(tuple(map(rule, config.rules)))
