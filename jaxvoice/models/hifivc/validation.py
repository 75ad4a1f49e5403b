"""The validation of HiFi-VC: reconstruction of held-out utterances, and conversions to listen to."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from jaxvoice.data.store import Store
from jaxvoice.dsp.framing import bucket_size
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.models.hifivc.features import unpack_pitch
from jaxvoice.models.hifivc.network import HiFiVC
from jaxvoice.training.provenance import describe_held_out
from jaxvoice.training.task import Sample, ValidationResult

METRICS = MappingProxyType(
    {
        "mel_l1": "mean absolute difference of log-mels of held-out utterances of training speakers, with the "
        "next utterance of the speaker as reference, or the same one if there is no other; of longer utterances, the "
        "first 30 s are used",
        "mel_l1_unseen": "the same for speakers that have no part in training",
    }
)
"""Metrics that can select the best model; lower is better."""
_SECONDS = 30  # of an utterance that are used, so that the memory of the networks is bounded
_LARGEST, _SMALLEST = 2**20, 64  # frames


class Validation:
    """Reconstruction of held-out utterances from their content and F0 and the voice of another utterance.

    **Arguments:**

    - `store`: held-out utterances of training speakers, with the columns of `training_columns`.
    - `unseen`: utterances of speakers that have no part in training; `None` if there are none.
    - `config`: the networks.
    - `samples`: the number of utterances of each store, of different speakers if there are as many, that are written
        as samples: the reconstruction, and the conversion to the voice of the next speaker, with source, reference
        and reconstruction beside it.

    The content features in the stores are used, so a validation does not run the content encoder. Of utterances and
    references longer than 30 s, the first 30 s are used.
    """

    def __init__(self, store: Store, config: HiFiVCConfig, *, unseen: Store | None = None, samples: int = 2):
        self.config, self._samples = config, samples
        self._frames = round(_SECONDS / config.content.frame_seconds)
        self._stores = {"mel_l1": store} | ({} if unseen is None else {"mel_l1_unseen": unseen})
        self.held_out: dict[str, Any] = describe_held_out(store)
        if unseen is not None:
            self.held_out["unseen"] = describe_held_out(unseen)

    def __call__(self, networks: HiFiVC) -> ValidationResult:
        """The metrics `METRICS`, and samples."""
        metrics, samples = {}, []
        for name, store in self._stores.items():
            voices = [self._voice(networks, store, row) for row in range(len(store))]
            errors, listened = [], _first_of_speakers(store, self._samples)
            for row in range(len(store)):
                own, other = _references(store, row)
                audio = self._decode(networks, store, row, voices[own])
                made, target = self._mel(audio), self._stored_mel(store, row)
                frames = min(made.shape[1], target.shape[1])
                errors.append(float(np.abs(made[:, :frames] - target[:, :frames]).mean(dtype=np.float64)))
                if row in listened:
                    samples += self._listen(networks, store, row, audio, other, voices)
            metrics[name] = float(np.mean(errors))
        return ValidationResult(metrics, samples)

    def _listen(
        self,
        networks: HiFiVC,
        store: Store,
        row: int,
        reconstruction: Float32[np.ndarray, " samples"],
        other: int,
        voices: list[Float32[np.ndarray, " size"]],
    ) -> list[Sample]:
        rate, utterances = self.config.mel.sample_rate, store.corpus.utterances
        name, source = utterances[row].id, self._waveform(store, row)
        target = self._stored_mel(store, row)
        samples = [Sample(name, reconstruction, rate, self._pictures(reconstruction, target), target=source)]
        if other != row:
            converted = self._decode(networks, store, row, voices[other])
            pictures = {
                "source": target,
                "reference": self._stored_mel(store, other),
                "converted": self._mel(converted),
                "reconstruction": self._mel(reconstruction),
            }
            others = {"source": source, "reference": self._waveform(store, other), "reconstruction": reconstruction}
            title = f"{name}_as_{utterances[other].speaker}"
            samples.append(Sample(title, converted, rate, pictures, others=others))
        return samples

    def _pictures(
        self, audio: Float32[np.ndarray, " samples"], target: Float32[np.ndarray, "mels frames"]
    ) -> Mapping[str, Float32[np.ndarray, "mels frames"]]:
        made = self._mel(audio)
        frames = min(made.shape[1], target.shape[1])
        return {"target": target[:, :frames], "generated": made[:, :frames]}

    def _mel(self, audio: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "mels frames"]:
        return bucketed_log_mel(audio, self.config.mel)

    def _waveform(self, store: Store, row: int) -> Float32[np.ndarray, " samples"]:
        """The part of a recording that is used."""
        return store.waveform(row)[: self._frames * self.config.decoder.hop_length]

    def _stored_mel(self, store: Store, row: int) -> Float32[np.ndarray, "mels frames"]:
        """The mel spectrogram of the part of a recording that is used."""
        return store["mel"][row][:, : self._frames * self.config.decoder.hop_length // self.config.mel.hop_length]

    def _voice(self, networks: HiFiVC, store: Store, row: int) -> Float32[np.ndarray, " size"]:
        mel = self._stored_mel(store, row).T
        frames = len(mel)
        padded = np.pad(mel, ((0, max(_SMALLEST, bucket_size(frames, _LARGEST)) - frames), (0, 0)))
        return np.asarray(_mean(networks, jnp.asarray(padded), jnp.asarray(frames)))

    def _decode(
        self, networks: HiFiVC, store: Store, row: int, voice: Float32[np.ndarray, " size"]
    ) -> Float32[np.ndarray, " samples"]:
        content = np.asarray(store["content"][row][:, : self._frames]).T.astype(np.float32)
        frames = len(content)
        extra = max(_SMALLEST, bucket_size(frames, _LARGEST)) - frames
        pitch = None
        if self.config.pitch_encoder is not None:
            per_frame = self.config.pitch_encoder.downsampling
            packed = np.asarray(store["pitch"][row][:, : self._frames], np.float32)
            pitch = np.asarray(unpack_pitch(jnp.asarray(packed[None]), per_frame))[0]
            pitch = jnp.asarray(np.pad(pitch, ((0, extra * per_frame), (0, 0))))
        content = jnp.asarray(np.pad(content, ((0, extra), (0, 0))))
        audio = np.asarray(_decode(networks, content, pitch, jnp.asarray(voice), jnp.asarray(frames)))
        return audio[: min(frames * self.config.decoder.hop_length, len(store["audio"][row]))]


def _first_of_speakers(store: Store, count: int) -> set[int]:
    """The first utterances of `count` speakers; with fewer speakers, also their next utterances."""
    turns: Counter[str] = Counter()
    order = []
    for row, utterance in enumerate(store.corpus.utterances):
        order.append((turns[utterance.speaker], row))
        turns[utterance.speaker] += 1
    return {row for _, row in sorted(order)[:count]}


def _references(store: Store, row: int) -> tuple[int, int]:
    """The next utterance of the same speaker, or `row` if there is none, and the next one of another speaker."""
    speakers = [utterance.speaker for utterance in store.corpus.utterances]
    after = [(row + 1 + step) % len(store) for step in range(len(store))]
    own = next(other for other in after if speakers[other] == speakers[row])
    return own, next((other for other in after if speakers[other] != speakers[row]), row)


@eqx.filter_jit
def _mean(networks: HiFiVC, mel: Float[Array, "frames mels"], length: Int[Array, ""]) -> Float[Array, " size"]:
    return networks.encode_speaker(mel, length=length).mean


@eqx.filter_jit
def _decode(
    networks: HiFiVC,
    content: Float[Array, "frames channels"],
    pitch: Float[Array, "subframes 2"] | None,
    voice: Float[Array, " size"],
    length: Int[Array, ""],
) -> Float[Array, " samples"]:
    return networks.decode(content, pitch, voice, length=length)[:, 0]
