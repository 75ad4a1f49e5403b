"""The validation of RAVE: the spectral distance of held-out recordings, and principal components of their latents."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from jaxvoice.data.audio import SILENCE
from jaxvoice.data.augmentation import AugmentationConfig, differentiate, integrate, normalize
from jaxvoice.data.store import Store
from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import DataError, ShapeError
from jaxvoice.losses import spectral_distance
from jaxvoice.models.rave.latent_pca import LatentPCA
from jaxvoice.models.rave.losses import recorded_signals
from jaxvoice.models.rave.network import Rave, RaveState
from jaxvoice.models.rave.training_config import RaveTrainingConfig, StepKind
from jaxvoice.training.logging import print_once
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

METRICS = MappingProxyType(
    {
        "spectral_distance": "spectral distance of the audio of held-out recordings and their reconstructions",
        "latents_80, latents_90, latents_95, latents_99": (
            "number of principal components of the latents that explain so many percent of their variance"
        ),
    }
)
"""Metrics of validations; `spectral_distance` selects the best model, and lower is better."""
_SHARES, _SAMPLE_SECONDS = (80, 90, 95, 99), 6.0


class _Window(NamedTuple):
    name: str
    audio: Float32[np.ndarray, "samples channels"]
    frames: int
    """Frames of latents that are not padding."""


class Validation:
    """The spectral distance between held-out recordings and their reconstructions from the means of latents.

    Reconstructions are compared with the target of training, `RaveTrainingConfig.fullband_target`, so that the delay of
    causal models is left out.

    Recordings are divided into windows of the length of training crops; the end of a recording is padded with zeros.
    At most `windows` of them are evaluated, evenly spaced over all recordings, so that the time does not grow with the
    corpus. Silent windows are left out, because the distance is relative to the level of the recording.

    For variational latents, each validation computes principal components of the means of all windows, as the release
    does. If there are fewer frames than latents, a warning is printed and no components are computed.

    **Arguments:**

    - `store`: held-out recordings.
    - `config`: the training configuration.
    - `augmentation`: the changes of training; validations normalise and differentiate the recordings as training does.
    - `windows`: the largest number of windows.
    - `samples`: number of recordings, evenly spaced, whose first seconds are written as a sample.

    **Raises:** `DataError` if all windows are silent.
    """

    def __init__(
        self,
        store: Store,
        config: RaveTrainingConfig,
        *,
        augmentation: AugmentationConfig | None = None,
        windows: int = 64,
        samples: int = 4,
    ):
        self.config = config
        self._augmentation = augmentation or AugmentationConfig()
        self.held_out: dict[str, Any] = {**describe_held_out(store), "windows": windows}
        self._windows = list(self._chosen(store, windows))
        self._pieces = list(self._heard_pieces(store, samples))
        if not self._windows:
            raise DataError("All held-out recordings are silent; hold out others, or none (--validation 0).")
        self._fitted: tuple[int, LatentPCA | None] | None = None  # of the last step
        frames, size = sum(window.frames for window in self._windows), config.model.bottleneck.latent_size
        self._has_components = config.model.bottleneck.kind == "variational" and frames >= size
        if config.model.bottleneck.kind == "variational" and not self._has_components:
            print_once(
                f"Principal components of the latents are not computed: the held-out recordings have {frames} frames "
                f"of {size} latents. Hold out at least {size} frames, "
                f"{size * config.model.hop_length / config.model.sample_rate:.1f} s, for models with a chosen fidelity."
            )

    def _chosen(self, store: Store, most: int) -> Iterator[_Window]:
        size = self.config.segment_size
        lengths = store.lengths("audio")
        places = [(row, start) for row, length in enumerate(lengths) for start in range(0, int(length), size)]
        places = [place for place in places if self._sounds(store, *place)]
        step = max(1.0, len(places) / most)
        for number in range(min(most, len(places))):
            yield self._window(store, *places[int(number * step)], size)

    def _heard_pieces(self, store: Store, most: int) -> Iterator[_Window]:
        """The first seconds of some recordings, padded to one length."""
        config = self.config
        size = -(-round(_SAMPLE_SECONDS * config.model.sample_rate) // config.segment_size) * config.segment_size
        rows = [row for row in range(len(store)) if self._sounds(store, row, 0)]
        longest = max((int(store.lengths("audio")[row]) for row in rows), default=1)
        size = min(size, -(-longest // config.segment_size) * config.segment_size)
        for number in range(min(most, len(rows))):
            row = rows[int(number * max(1.0, len(rows) / most))]
            yield self._window(store, row, 0, size)

    def _window(self, store: Store, row: int, start: int, size: int) -> _Window:
        audio = self._audio(store, row, start, size)
        frames = -(-audio.shape[1] // self.config.model.hop_length)
        padded = np.pad(audio, ((0, 0), (0, size - audio.shape[1]))).T
        return _Window(store.corpus.utterances[row].id, np.ascontiguousarray(padded, np.float32), frames)

    def _audio(self, store: Store, row: int, start: int, size: int) -> Float32[np.ndarray, "channels samples"]:
        """A part of a recording as training crops are changed, without random changes."""
        audio = store["audio"][row][..., start : start + size] * store["gain"][row]
        audio = audio.reshape(-1, audio.shape[-1]).astype(np.float32)
        audio = normalize(audio) if self._augmentation.normalize else audio
        return differentiate(audio) if self._augmentation.derivative else audio

    def _sounds(self, store: Store, row: int, start: int) -> bool:
        part = store["audio"][row][..., start : start + self.config.segment_size].astype(np.float32)
        deviation = np.abs(part - part.mean(axis=-1, keepdims=True)).max()
        return bool(deviation * store["gain"][row] >= SILENCE)

    def __call__(self, network: Rave, state: RaveState, kind: StepKind, *, step: int) -> ValidationResult:
        """The metrics `METRICS`, and samples with their mel spectrograms.

        **Arguments:** `kind`, that of the last training step: noise is added, and latents are quantised, as in that
        step; `step`, the number of steps.
        """
        noisy = kind.adversarial or self.config.model.generator.version == "v2"
        distances, means = [], []

        def reconstruct(window: _Window, number: int) -> tuple[Array, Array, Array]:
            audio, key = jnp.asarray(window.audio), jax.random.key(number)
            return _reconstruct(self.config, network, state, audio, key, noisy, kind.quantize)

        for number, window in enumerate(self._windows):
            _, z, distance = reconstruct(window, number)
            distances.append(float(distance))
            means.append(z)
        samples = [
            self._sample(piece, np.asarray(reconstruct(piece, number)[0])) for number, piece in enumerate(self._pieces)
        ]
        metrics, pca = {"spectral_distance": float(np.mean(distances))}, self._components(means, step)
        if pca is not None:
            metrics |= {f"latents_{share}": float(pca.size_for(share / 100)) for share in _SHARES}
        return ValidationResult(metrics, samples)

    def with_components(self, network: Rave, state: RaveState, *, step: int) -> RaveState:
        """`state` with the principal components of the latents after `step` steps, if they can be computed."""
        if not self._has_components:
            return state
        if self._fitted is not None and self._fitted[0] == step:
            pca = self._fitted[1]
        else:
            pca = self._components([_means(network, state, jnp.asarray(one.audio)) for one in self._windows], step)
        if pca is None:
            return state
        components = (pca.components, pca.mean, pca.fidelity)
        return eqx.tree_at(lambda s: (s.latent_pca, s.latent_mean, s.fidelity), state, components)

    def _components(self, means: list[Any], step: int) -> LatentPCA | None:
        """The principal components of `means`, whose frames of padding are left out."""
        if not self._has_components:
            return None
        rows = [np.asarray(mean)[: window.frames] for mean, window in zip(means, self._windows, strict=True)]
        pca = None
        if np.isfinite(latents := np.concatenate(rows)).all():
            try:
                pca = LatentPCA.fit(latents)
            except ShapeError as failure:  # all frames are equal
                print_once(f"Principal components of the latents are not computed: {failure}")
        self._fitted = (step, pca)
        return pca

    def _sample(self, window: _Window, made: Float32[np.ndarray, "samples channels"]) -> Sample:
        """The first channel as the sample, and the other channels beside it; without the padding of the window."""
        config, mel = self.config.model, _mel_config(self.config.model.sample_rate)
        length = min(window.frames * config.hop_length, len(made))
        target, generated = self._heard(window.audio.T), self._heard(made.T)
        pictures = {
            name: np.asarray(log_mel(jnp.asarray(one[0], jnp.float32), mel))[:, : -(-length // mel.hop_length)]
            for name, one in (("target", target), ("generated", generated))
            if np.isfinite(one).all() and one.shape[1] >= mel.min_samples
        }
        target, generated = target[:, :length], generated[:, :length]
        others = {}
        for i in range(1, config.n_channels):
            others |= {f"channel {i + 1}": generated[i], f"channel {i + 1} target": target[i]}
        return Sample(window.name, generated[0], config.sample_rate, pictures, target=target[0], others=others)

    def _heard(self, audio: Float32[np.ndarray, "channels samples"]) -> Float[np.ndarray, "channels samples"]:
        return integrate(audio, self.config.model.sample_rate) if self._augmentation.derivative else audio


def _mel_config(sample_rate: int) -> MelConfig:
    """The mel spectrograms of pictures, with frames of about 46 ms."""
    n_fft = 2 ** round(np.log2(0.046 * sample_rate))
    sizes = {"n_fft": n_fft, "win_length": n_fft, "hop_length": n_fft // 4, "num_mels": min(80, n_fft // 16)}
    return MelConfig(sample_rate=sample_rate, fmax=None, **sizes)


@eqx.filter_jit
def _reconstruct(
    config: RaveTrainingConfig,
    network: Rave,
    state: RaveState,
    audio: Float[Array, "samples channels"],
    key: PRNGKeyArray,
    noisy: bool,
    quantize: bool,
) -> tuple[Float[Array, "samples channels"], Float[Array, "frames latents"], Float[Array, ""]]:
    """The reconstruction, its latents, and its spectral distance from the target of training."""
    latents, _ = network.encode(audio, state, quantize=quantize, inference=True)
    made, _ = network.decode(latents.z, state, key=key if noisy else None, inference=True)
    target = recorded_signals(config, network.pqmf, audio).audio
    distance = spectral_distance(target, made, scales=config.scales, log_epsilon=config.log_epsilon)
    return made, latents.z, distance


@eqx.filter_jit
def _means(network: Rave, state: RaveState, audio: Float[Array, "samples channels"]) -> Float[Array, "frames latents"]:
    return network.encode(audio, state, inference=True)[0].z
