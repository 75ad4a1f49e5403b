"""Voice conversion of held-out utterances: similarity to target and source, words kept, F0, and reconstruction.

    pip install pocketsphinx
    pip download --no-deps resemblyzer
    python -m experiments.benchmarks.conversion --model runs/hifivc_vctk --judge Resemblyzer-0.1.4-py3-none-any.whl

Without `--data`, the utterances are those that `experiments.hifivc_vctk` holds out of its demo corpus, and those of its
unseen voices. Every source is converted to `--targets` other speakers, drawn at random, half of them unseen ones. The
reference of a voice is the first of its other utterances.

Voices are compared by the cosine of embeddings of Resemblyzer's GE2E encoder, which has no part in any training here.
The voice of a speaker is the mean embedding of all its recordings; those of the source itself are left out where there
are others. The recogniser is that of `experiments.benchmarks.speech`.

Similarities between all speakers, of their recordings and of the conversions to them, are in the JSON file, and with
`--matrix` in a picture. A speaker with a single recording has no similarity to itself.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float, Float32, UInt8
from matplotlib.image import imsave

from experiments import voice_conversion
from experiments.benchmarks import common
from experiments.benchmarks.speech import NOISE, recognisers
from experiments.benchmarks.torch_speaker_encoder import load as load_judge, mean_embedding
from experiments.benchmarks.word_errors import edits, words
from jaxvoice.data import Audio, Corpus, Utterance, find_corpus, read_audio, resample
from jaxvoice.data.samplers import permutation
from jaxvoice.dsp import f0_correlation
from jaxvoice.dsp.mel import bucketed_log_mel
from jaxvoice.dsp.pitch import PitchConfig, track_pitch
from jaxvoice.pipelines import VoiceConverter
from jaxvoice.training.pictures import draw_matrix

Waveform = Float32[np.ndarray, " samples"]
Embedding = Float32[np.ndarray, " 256"]
TRACKER = PitchConfig("autocorrelation")


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    model: Path
    """HiFi-VC model: model folder or run folder."""
    judge: Path
    """Wheel of Resemblyzer, or its `pretrained.pt`."""
    data: Path | None = None
    """Corpus with speakers, all of which count as unseen; by default the demo corpus of `experiments.hifivc_vctk`."""
    sources: int = 2
    """Source utterances of each speaker."""
    targets: int = 2
    """Target speakers of each source."""
    references: int = 1
    """Reference utterances of each target."""
    pitch: str = "match"
    """F0 of the result: match, keep, or semitones."""
    recognise: bool = True
    """Also count word errors, for a corpus with texts."""
    matrix: Path | None = None
    """PNG file for a picture of the similarities between all speakers, of conversions and of recordings."""
    json: Path | None = None
    """File for the results of every conversion."""


@dataclass(frozen=True)
class Speaker:
    """A speaker: held-out utterances, other utterances for references, and whether training had the voice."""

    name: str
    sources: tuple[Utterance, ...]
    references: tuple[Utterance, ...]
    seen: bool


def demo_speakers() -> tuple[list[Speaker], list[str]]:
    """The speakers of the demo corpus as the experiment divides them, and the texts of its training."""
    seen, unseen = voice_conversion.without_speakers(voice_conversion.demo_corpus(), voice_conversion.DEMO_UNSEEN)
    train, held_out = voice_conversion.hold_out(seen, None)
    rest, held_out_unseen = voice_conversion.hold_out(unseen, None)
    pairs = [(train, held_out, True), (rest, held_out_unseen, False)]
    speakers = [
        Speaker(name, _of(part, name), _of(references, name), known)
        for references, part, known in pairs
        for name in part.speakers
    ]
    return speakers, [item.text for item in train.utterances]


def corpus_speakers(corpus: Corpus) -> list[Speaker]:
    """The speakers of `corpus`, none of which was trained on. A single utterance is both source and reference."""
    speakers = []
    for name in corpus.speakers:
        items = _of(corpus, name)
        middle = len(items) // 2
        speakers.append(Speaker(name, items[middle:], items[:middle] or items, seen=False))
    return speakers


def _of(corpus: Corpus, speaker: str) -> tuple[Utterance, ...]:
    return tuple(item for item in corpus.utterances if item.speaker == speaker)


def targets_of(speakers: Sequence[Speaker], own: int, number: int, count: int) -> list[int]:
    """Other speakers than `own`, alternately seen and unseen ones where there are both."""
    order = [int(other) for other in permutation(len(speakers), own, number) if other != own]
    groups = [[other for other in order if speakers[other].seen == seen] for seen in (True, False)]
    mixed = [other for pair in zip(*groups, strict=False) for other in pair]
    return (mixed + [other for other in order if other not in mixed])[:count]


class Judge:
    """Embeddings of audio, and their similarities to speakers."""

    def __init__(self, path: Path, speakers: Sequence[Speaker]):
        self._encoder = load_judge(path)
        self.known: dict[int, list[tuple[str, Embedding]]] = defaultdict(list)
        """The name and embedding of every recording, by the number of its speaker."""
        for index, speaker in enumerate(speakers):
            for item in dict.fromkeys((*speaker.sources, *speaker.references)):
                audio = _read(item)
                self.known[index].append((item.id, self.embed(audio.samples, audio.sample_rate)))

    def embed(self, samples: Waveform, rate: int) -> Embedding:
        """The embedding of `samples`, of norm 1."""
        return self._encoder.embed(samples, rate)

    def similarity(self, embedding: Embedding, speaker: int, without: str = "") -> float:
        """The cosine of `embedding` and the mean of the recordings of a speaker except `without`."""
        others = [value for name, value in self.known[speaker] if name != without]
        voice = mean_embedding(others or [value for _, value in self.known[speaker]])
        return float(embedding @ voice)


def _read(item: Utterance) -> Audio:
    assert item.audio is not None
    return read_audio(item.audio)


def convert_all(converter: VoiceConverter, judge: Judge, speakers: Sequence[Speaker], options: Options) -> list[dict]:
    """A row for each conversion, with its audio."""
    pitch: Any = options.pitch if options.pitch in ("match", "keep") else float(options.pitch)
    voices = {
        index: converter.encode_voice([_read(item) for item in speaker.references[: options.references]])
        for index, speaker in enumerate(speakers)
    }
    rows, rate = [], converter.sample_rate
    for own, speaker in enumerate(speakers):
        for number, item in enumerate(speaker.sources[: options.sources]):
            source = _read(item)
            spoken = judge.embed(source.samples, source.sample_rate)
            again = converter.convert(source, voices[own], pitch="keep")
            target_mel, own_mel = (_mel(converter, one) for one in (source, Audio(again, rate)))
            frames = min(target_mel.shape[1], own_mel.shape[1])
            reconstruction = float(np.abs(target_mel[:, :frames] - own_mel[:, :frames]).mean())
            for other in targets_of(speakers, own, number, options.targets):
                made = converter.convert(source, voices[other], pitch=pitch)
                embedding = judge.embed(made, rate)
                rows.append(
                    {
                        "source": item.id,
                        "speaker": speaker.name,
                        "target": speakers[other].name,
                        "kind": f"{_kind(speaker)} to {_kind(speakers[other])}",
                        "to target": judge.similarity(embedding, other),
                        "to source": judge.similarity(embedding, own, without=item.id),
                        "source to target": judge.similarity(spoken, other),
                        "source to itself": judge.similarity(spoken, own, without=item.id),
                        "F0 correlation": _f0_correlation(source, made, rate),
                        "reconstruction mel L1": reconstruction,
                        "text": item.text,
                        "embedding": embedding,
                        "audio": {"source": source, "converted": Audio(made, rate), "own voice": Audio(again, rate)},
                    }
                )
    return rows


def _kind(speaker: Speaker) -> str:
    return "seen" if speaker.seen else "unseen"


def _mel(converter: VoiceConverter, audio: Audio) -> Float32[np.ndarray, "mels frames"]:
    samples = np.asarray(resample(audio.samples, audio.sample_rate, converter.sample_rate), np.float32)
    return bucketed_log_mel(samples * np.float32(0.95 / np.abs(samples).max()), converter.config.mel)


def _f0_correlation(source: Audio, made: Waveform, rate: int) -> float:
    before = track_pitch(source.samples, source.sample_rate, TRACKER)
    after = track_pitch(made, rate, TRACKER)
    frames = min(len(before), len(after))
    return f0_correlation(before[:frames], after[:frames])


def similarity_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean similarities by kind of pair, and the share of conversions closer to the target than to the source."""
    groups = {"all": list(rows)}
    for row in rows:
        groups.setdefault(row["kind"], []).append(row)
    found = []
    for kind, group in groups.items():
        closer = sum(row["to target"] > row["to source"] for row in group)
        low, high = _wilson(closer, len(group))
        correlations = [row["F0 correlation"] for row in group if math.isfinite(row["F0 correlation"])]
        names = ("to target", "to source", "source to target", "source to itself", "reconstruction mel L1")
        means = {name: float(np.mean([row[name] for row in group])) for name in names}
        found.append(
            {
                "pairs": kind,
                "number": len(group),
                **means,
                "closer to target %": 100 * closer / len(group),
                "95 % interval": f"{100 * low:.0f} to {100 * high:.0f}",
                "F0 correlation": float(np.mean(correlations)) if correlations else None,
            }
        )
    return found


def similarity_matrices(
    rows: Sequence[Mapping[str, Any]], judge: Judge, speakers: Sequence[Speaker]
) -> dict[str, Float[np.ndarray, "speakers speakers"]]:
    """Mean cosines of recordings (row: their speaker) and of conversions (row: their target) to each speaker (column).

    A recording is compared with the other recordings of its speaker. NaN stands for a speaker with a single recording,
    and for one that is no target.
    """
    count = len(speakers)
    matrices = {"recordings": np.full((count, count), np.nan), "conversions": np.full((count, count), np.nan)}
    for own in range(count):
        known = judge.known[own]
        made = [row["embedding"] for row in rows if row["target"] == speakers[own].name]
        for other in range(count):
            if other != own or len(known) > 1:
                cosines = [judge.similarity(value, other, without=name) for name, value in known]
                matrices["recordings"][own, other] = np.mean(cosines)
            if made:
                matrices["conversions"][own, other] = np.mean([judge.similarity(value, other) for value in made])
    return matrices


def matrix_rows(matrices: Mapping[str, Float[np.ndarray, "speakers speakers"]]) -> list[dict[str, Any]]:
    """For each matrix, the mean on and off the diagonal, and the share of rows whose largest value is on it."""
    found = []
    for name, matrix in matrices.items():
        complete = np.flatnonzero(~np.isnan(matrix).any(axis=1))
        part, own = matrix[complete], matrix[complete, complete]
        nearest = np.mean(part.argmax(axis=1) == complete) if len(complete) else math.nan
        rest = (part.sum() - own.sum()) / max(1, part.size - own.size)
        found.append(
            {
                "cosines of": name,
                "speakers": len(complete),
                "own speaker or target": float(own.mean()) if len(complete) else None,
                "other speakers": float(rest) if len(complete) else None,
                "own speaker or target nearest %": float(100 * nearest) if len(complete) else None,
            }
        )
    return found


def draw_matrices(
    matrices: Mapping[str, Float[np.ndarray, "speakers speakers"]], names: Sequence[str]
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture of the matrices side by side; rows are speakers of recordings, or targets of conversions."""
    gap = np.full((len(names), 1), np.nan)
    values = [part for matrix in matrices.values() for part in (matrix, gap)][:-1]
    columns = [name for _ in matrices for name in (*names, "")][:-1]
    return draw_matrix("cosines: " + ", ".join(matrices), np.concatenate(values, axis=1), rows=names, columns=columns)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _wilson(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, scale = count / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    width = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / scale
    return centre - width, centre + width


def word_rows(rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Word error rates of sources, of conversions to their own voice, and of conversions."""
    recogniser = recognisers(texts, usual_english=False)["bigrams of the corpus"]
    random, found = np.random.default_rng(0), []
    for name in ("source", "own voice", "converted"):
        errors = total = 0
        once: set[str] = set()
        for row in rows:
            if name != "converted" and row["source"] in once:
                continue
            once.add(row["source"])
            audio, expected = row["audio"][name], words(row["text"])
            noisy = audio.samples + NOISE * random.standard_normal(len(audio.samples), np.float32)
            errors += edits(expected, recogniser(noisy, audio.sample_rate))
            total += len(expected)
        found.append({"audio": name, "words": total, "errors": errors, "word error rate %": 100 * errors / total})
    return found


def main(options: Options) -> None:
    """Run the benchmark."""
    converter = VoiceConverter.load(options.model)
    if options.data is None:
        speakers, texts = demo_speakers()
    else:
        corpus = find_corpus(options.data)
        speakers, texts = corpus_speakers(corpus), [item.text for item in corpus.utterances]
    judge = Judge(options.judge, speakers)
    rows = convert_all(converter, judge, speakers, options)
    tables = [similarity_rows(rows)]
    if options.recognise and all(row["text"] for row in rows):
        tables.append(word_rows(rows, texts))
    matrices = similarity_matrices(rows, judge, speakers)
    names = [speaker.name for speaker in speakers]
    tables.append(matrix_rows(matrices))
    if options.matrix is not None:
        imsave(options.matrix, draw_matrices(matrices, names))
        print(f"Written to {options.matrix}")
    hidden = ("audio", "embedding")
    plain = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
    numbers = {name: [[_number(value) for value in row] for row in matrix] for name, matrix in matrices.items()}
    common.report("conversion", options, *tables, conversions=plain, speakers=names, similarities=numbers)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
