"""Verification of speakers: the equal error rate of a speaker encoder, and the similarities of all speakers.

    pip download --no-deps resemblyzer
    python -m experiments.benchmarks.speaker_similarity --model Resemblyzer-0.1.4-py3-none-any.whl --data vctk

Every pair of recordings is a trial. The equal error rate is the share of wrong decisions at the threshold at which both
kinds of errors are equally frequent. Its 95 % interval is that of a bootstrap over speakers, since pairs that share a
speaker are not independent. Speakers with one recording take part in pairs of different speakers only.

The matrix contains the mean cosine of the recordings of two speakers, on the diagonal that of different recordings of
one speaker, and is in the JSON file; with `--matrix`, also in a picture.
"""

import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float, Float32
from matplotlib.image import imsave

from experiments.benchmarks import common
from jaxvoice.data import Corpus, find_corpus, read_audio
from jaxvoice.data.utterances import rows_of_speakers
from jaxvoice.models.speaker_encoder import error_rate_interval, verify
from jaxvoice.pipelines import SpeakerEncoder, import_model
from jaxvoice.training.pictures import draw_matrix


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    model: Path
    """Speaker encoder: model folder, run folder, Resemblyzer's wheel, or a checkpoint that jaxvoice import reads."""
    data: Path
    """Corpus with speakers."""
    seconds: float | None = None
    """Seconds of each recording to use, from its beginning; by default all."""
    matrix: Path | None = None
    """Picture of the similarities of all speakers (.png)."""
    draws: int = 2000
    """Samples of the bootstrap."""


def load_encoder(path: Path) -> SpeakerEncoder:
    """The encoder at `path`; wheels and checkpoints are imported to a temporary folder."""
    if path.is_dir():
        return SpeakerEncoder.load(path)
    with tempfile.TemporaryDirectory() as folder:
        source = path
        if path.suffix == ".whl":
            source = Path(folder) / "pretrained.pt"
            source.write_bytes(zipfile.ZipFile(path).read("resemblyzer/pretrained.pt"))
        import_model(source, Path(folder) / "model", family="speaker_encoder")
        return SpeakerEncoder.load(Path(folder) / "model")


def embed_corpus(encoder: SpeakerEncoder, corpus: Corpus, seconds: float | None) -> Float32[np.ndarray, "n dim"]:
    """The embeddings of all recordings of `corpus`."""
    embeddings = []
    for utterance in corpus.utterances:
        assert utterance.audio is not None
        audio = read_audio(utterance.audio)
        samples = audio.samples if seconds is None else audio.samples[: round(seconds * audio.sample_rate)]
        embeddings.append(encoder.embed(samples, audio.sample_rate))
    return np.stack(embeddings)


def similarity_matrix(
    embeddings: Float[np.ndarray, "n dim"], rows: Sequence[np.ndarray]
) -> Float[np.ndarray, "speakers speakers"]:
    """The mean cosine of the recordings of two speakers; NaN for a speaker with one recording and itself."""
    x = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosines = (x @ x.T).astype(np.float64)
    np.fill_diagonal(cosines, np.nan)
    matrix = np.full((len(rows), len(rows)), np.nan)
    for i, j in np.ndindex(matrix.shape):
        pairs = cosines[np.ix_(rows[i], rows[j])]
        if np.isfinite(pairs).any():
            matrix[i, j] = np.nanmean(pairs)
    return matrix


def main(options: Options) -> None:
    """Run the benchmark."""
    encoder, corpus = load_encoder(options.model), find_corpus(options.data)
    of_speakers = rows_of_speakers(corpus)
    speakers = [utterance.speaker for utterance in corpus.utterances]
    embeddings = embed_corpus(encoder, corpus, options.seconds)
    found = verify(embeddings, speakers)
    low, high = error_rate_interval(embeddings, speakers, draws=options.draws)
    matrix = similarity_matrix(embeddings, list(of_speakers.values()))
    row = {
        "recordings": len(speakers),
        "speakers": len(of_speakers),
        "pairs of one speaker": len(found.same),
        "pairs of different speakers": len(found.different),
        "equal error rate %": 100 * found.equal_error_rate,
        "from %": 100 * low,
        "to %": 100 * high,
        "threshold": found.threshold,
        "mean cosine, same": float(found.same.mean()),
        "mean cosine, different": float(found.different.mean()),
    }
    names = list(of_speakers)
    if options.matrix is not None:
        imsave(options.matrix, draw_matrix("similarities of speakers", matrix, rows=names, columns=names))
        print(f"Written to {options.matrix}")
    numbers = [[None if np.isnan(value) else round(float(value), 4) for value in line] for line in matrix]
    common.report("speaker_similarity", options, [row], names=names, similarities=numbers)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
