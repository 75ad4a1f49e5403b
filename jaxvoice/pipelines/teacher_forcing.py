"""Teacher-forced mel spectrograms of an aligned corpus, for fine-tuning a vocoder.

The model synthesises every utterance with the durations of the corpus, so that each frame belongs to the same samples
of the recording (teacher forcing; arXiv 2010.05646, section 4.4).
"""

import hashlib
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32

from jaxvoice.data.aligned import load_aligned, utterance_audio
from jaxvoice.data.alignments.aligned_corpora import AlignedKind, find_aligned
from jaxvoice.data.alignments.alignment import AlignmentError
from jaxvoice.data.alignments.frame_durations import MAX_LENGTH_DIFFERENCE
from jaxvoice.data.atomic_folders import atomic_folder
from jaxvoice.data.audio import write_wav
from jaxvoice.data.store import Store
from jaxvoice.data.utterances import Corpus, RejectedUtterance, Utterance, report_table
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError, ConfigError, DataError
from jaxvoice.models.family_lookup import find_family
from jaxvoice.models.gaussian_tts.batch_synthesis import teacher_forced_mels
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig
from jaxvoice.models.gaussian_tts.family import FAMILY
from jaxvoice.models.hifigan.family import FAMILY as HIFIGAN
from jaxvoice.pipelines.mel_to_audio import MelToAudio
from jaxvoice.pipelines.sources import find_model_folder, find_model_with_method, print_notices
from jaxvoice.pipelines.vocoder import Vocoder
from jaxvoice.text.phonemes import PhoneSet
from jaxvoice.training.logging import file_name

_LONGEST_NAME = 120  # characters, far below the limits of file systems


@dataclass(frozen=True)
class TeacherForced:
    """The result of `teacher_force`."""

    corpus: Path
    """The corpus of the utterances."""
    folder: Path
    """The folder that contains `mels/<id>.npy` and `wavs/<id>.wav`."""
    utterances: int
    """Number of utterances written."""
    seconds: float
    """Their total duration in seconds."""
    mel_l1: float
    """Mean |log-mel of the model - log-mel of the recording| over all frames of all utterances and all bands, in the
    units of the mel contract."""
    rejected: tuple[RejectedUtterance, ...] = ()
    """The rejected utterances, with reasons."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of rejected utterances for each kind of reason."""
        return dict(Counter(item.kind for item in self.rejected))

    def table(self) -> str:
        """The result as lines of at most 80 characters."""
        rows = [("corpus", str(self.corpus)), ("pairs", f"{self.utterances} in {self.folder}")]
        rows.append(("duration", f"{self.seconds / 60:.1f} minutes"))
        rows.append(("mean L1", f"{self.mel_l1:.3f} between predicted mels and the mels of the recordings"))
        return report_table(rows, self.rejected, self.corpus)

    def __str__(self) -> str:
        return self.table()

    def next_command(self, vocoder: str | Path | None = None) -> str:
        """The command that fine-tunes the vocoder at the path or Hub id `vocoder` on the written pairs.

        The experiment is that of the vocoder's family; without a vocoder, that of HiFi-GAN.
        """
        source, experiment = "RUN_OR_MODEL_OF_THE_VOCODER", HIFIGAN.experiment
        if vocoder is not None:
            source = shlex.quote(str(vocoder))
            experiment = find_family(find_model_folder(vocoder)).experiment or "EXPERIMENT_OF_THE_VOCODER"
        return (
            f"python -m experiments.{experiment} --data {shlex.quote(str(self.folder))} --corpus pairs "
            f"--run-dir runs/fine_tuned --init-from {source}"
        )


def teacher_force(
    corpus: Corpus | str | Path,
    output: str | Path,
    model: str | Path,
    *,
    vocoder: Vocoder | str | Path | None = None,
    kind: AlignedKind | Literal["auto"] = "auto",
    audio_dir: str | Path | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> TeacherForced:
    """Predict mel spectrograms for an aligned corpus, using the durations of the corpus, and write them together with
    the recordings, in the layout that `find_corpus(output, "pairs")` reads.

    `output/mels/<id>.npy` is float32 (mels, frames). `output/wavs/<id>.wav` has `frames * hop_length` samples, scaled
    to a peak of 0.95 if the model was trained on recordings scaled in this way. Ids become file names; dots and
    characters that some file systems do not support, such as `/`, are percent-encoded. Of ids that differ only in case,
    the first is kept. The folder is created only after all files have been written.

    **Arguments:**

    - `corpus`: a corpus that `find_aligned` returned, or its path, with `kind` and `audio_dir` as for `find_aligned`.
    - `output`: a folder that does not exist or is empty.
    - `model`: a model folder, a run folder or a Hub id.
    - `vocoder`: the vocoder to fine-tune, or its path. Mels are written as `Synthesizer` passes them to the vocoder:
        adjacent frames are averaged if it uses HiFi-GAN's contract and the model WaveGlow's. Without a vocoder, the
        mels of the model are written unchanged.
    - `batch_size`: utterances per batch.
    - `progress`: show progress bars on stderr.

    **Raises:** `ConfigError` if `output` is not empty or not a folder, or if `model` is another kind of model;
    `DataError` if no utterance can be used, with the reasons, or if the files cannot be written; `MelError` if the mel
    contracts of the vocoder and the model differ; `CheckpointError` for models that are missing or damaged. Warns with
    `JaxvoiceWarning` if frames are averaged.
    """
    output = Path(output).expanduser()
    _check_empty(output)
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; it should be at least 1.")
    folder, family = find_model_with_method(model, "speak", "a text-to-speech model")
    if family.name != FAMILY.name:
        raise ConfigError(
            f"The model {folder} is of the family {family.name}; it should be a {FAMILY.name}, which predicts "
            "spectrograms from phonemes with durations."
        )
    network, config = FAMILY.load_network(folder)
    print_notices(folder, FAMILY)
    mel_to_audio = MelToAudio(vocoder, config.mel)
    if not isinstance(corpus, Corpus):
        phone_set = PhoneSet(config.phone_set, config.codes)
        corpus = find_aligned(corpus, kind, audio_dir=audio_dir, phone_set=phone_set)
    elif corpus.phone_set is None:
        raise DataError(f"The corpus {corpus.root} ({corpus.kind}) has no alignments; read it with find_aligned.")
    elif corpus.phone_set.codes != config.codes:
        raise ConfigError(
            f"The corpus was read with the phonemes of {corpus.phone_set.name!r}, but the model uses those of "
            f"{config.phone_set!r}; pass the path of the corpus, or read it with the model's phone set."
        )
    corpus, names = _with_unique_names(_with_recordings(corpus))
    store = load_aligned(
        corpus,
        config.mel,
        peak_normalize=config.peak_normalize,
        max_frames=config.decoder.max_frames,
        max_phones=config.encoder.max_phones,
        progress=progress,
    )
    synthesized = teacher_forced_mels(network.acoustic, network.batch_norm, config, store, batch_size=batch_size)
    if progress:
        from tqdm import tqdm

        synthesized = tqdm(synthesized, "synthesising", len(store), disable=None)
    try:
        with atomic_folder(output) as temporary:
            found = _write(temporary, synthesized, store, names, config, mel_to_audio)
            if output.is_dir():
                output.rmdir()
    except OSError as failure:
        raise DataError(
            f"{failure.filename or output} cannot be written ({failure.strerror or failure}); free disk space or "
            "choose another folder."
        ) from failure
    return replace(found, folder=output)


def _check_empty(output: Path) -> None:
    if output.is_dir():
        entry = next(output.iterdir(), None)
        if entry is not None:
            raise ConfigError(f"{output} contains {entry.name!r}; it should be empty. Choose a new or empty folder.")
    elif output.exists() or output.is_symlink():
        raise ConfigError(f"{output} is not a folder; choose a new folder.")


def _with_recordings(corpus: Corpus) -> Corpus:
    """`corpus` with the utterances without a recording rejected; raises `DataError` if no utterance has one."""
    without_audio = [utterance for utterance in corpus.utterances if utterance.audio is None]
    if len(without_audio) == len(corpus):
        raise DataError(
            f"{corpus.root} has no recordings for its {len(without_audio)} alignment(s), and a vocoder is trained on "
            "mels and recordings. Pass the folder of the recordings (audio_dir, --audio-dir)."
        )
    reasons = [
        RejectedUtterance(item.id, "no audio", f"{item.id} has no recording; pass the folder of the recordings.")
        for item in without_audio
    ]
    kept = tuple(utterance for utterance in corpus.utterances if utterance.audio is not None)
    return replace(corpus, utterances=kept, rejected=(*corpus.rejected, *reasons))


def _with_unique_names(corpus: Corpus) -> tuple[Corpus, dict[str, str]]:
    """`corpus` without utterances whose file names are not unique on some file systems, and the file names by id."""
    taken: dict[str, str] = {}
    kept: list[Utterance] = []
    rejected = list(corpus.rejected)
    for utterance in corpus.utterances:
        name = pair_name(utterance.id)
        first = taken.setdefault(name.lower(), utterance.id)
        if first == utterance.id:
            kept.append(utterance)
            continue
        reason = (
            f"{utterance.id} and {first} would have the same file name on case-insensitive file systems; rename one of "
            "them."
        )
        rejected.append(RejectedUtterance(utterance.id, "file name", reason))
    names = {utterance.id: pair_name(utterance.id) for utterance in kept}
    return replace(corpus, utterances=tuple(kept), rejected=tuple(rejected)), names


def pair_name(name: str) -> str:
    """The file name of an utterance, without suffix: no folders, and only characters that every file system supports.

    Dots are escaped, since the text after a dot would be read as a suffix. Very long names are cut, and end with a
    hash.
    """
    plain = file_name(name).replace(".", "%2E")
    if len(plain) <= _LONGEST_NAME:
        return plain
    return f"{plain[: _LONGEST_NAME - 17]}-{hashlib.sha256(plain.encode()).hexdigest()[:16]}"


def _write(
    folder: Path,
    synthesized: Iterable[tuple[int, Float32[np.ndarray, "mels frames"]]],
    store: Store,
    names: Mapping[str, str],
    config: GaussianTTSConfig,
    mel_to_audio: MelToAudio,
) -> TeacherForced:
    mels, wavs = folder / "mels", folder / "wavs"
    mels.mkdir()
    wavs.mkdir()
    frames, distance, rejected = [], [], []
    for number, mel in synthesized:
        utterance = store.corpus.utterances[number]
        try:
            samples = _recording_of_length(utterance, mel.shape[1], config.mel, config.peak_normalize)
        except (AudioError, AlignmentError) as failure:
            rejected.append(RejectedUtterance(utterance.id, getattr(failure, "kind", "audio"), str(failure)))
            continue
        # Resampling can exceed full scale, which 16-bit integers would clip.
        subtype = "PCM_16" if np.abs(samples).max() <= 1 else "FLOAT"
        write_wav(wavs / f"{names[utterance.id]}.wav", samples, config.mel.sample_rate, subtype)
        np.save(mels / f"{names[utterance.id]}.npy", np.ascontiguousarray(mel_to_audio.vocoder_input(mel)))
        frames.append(mel.shape[1])
        distance.append(np.abs(mel - store["mel"][number]).sum(dtype=np.float64))
    rejected = (*store.rejected, *rejected)
    if not frames:
        reasons = report_table((), rejected, store.corpus.root)
        raise DataError(f"None of the {len(rejected)} utterance(s) of {store.corpus.root} can be used:\n{reasons}")
    seconds = sum(frames) * config.mel.hop_length / config.mel.sample_rate
    mean = float(sum(distance) / (sum(frames) * config.mel.num_mels))
    return TeacherForced(store.corpus.root, folder, len(frames), seconds, mean, rejected)


def _recording_of_length(
    utterance: Utterance, frames: int, contract: MelConfig, peak_normalize: bool
) -> Float32[np.ndarray, " samples"]:
    """The recording, cut or padded to `hop_length` samples for each of `frames`.

    **Raises:** `AlignmentError` if its length differs by more than the tolerance of alignments.
    """
    assert utterance.audio is not None
    samples = utterance_audio(utterance.audio, contract.sample_rate, peak_normalize=peak_normalize)
    wanted = frames * contract.hop_length
    if abs(len(samples) - wanted) > (MAX_LENGTH_DIFFERENCE + 1) * contract.hop_length:
        raise AlignmentError(
            "length",
            f"{utterance.audio} is {len(samples) / contract.sample_rate:.3f} s long; it should be "
            f"{wanted / contract.sample_rate:.3f} s long, like the mel spectrogram of {utterance.id}. Use the "
            "recording that the mel was computed from.",
        )
    return np.pad(samples[:wanted], (0, max(0, wanted - len(samples))))
