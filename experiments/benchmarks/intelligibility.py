"""Word error rate of a speech recogniser on recordings, on their resynthesis, and on their texts as speech.

    pip install pocketsphinx
    python -m experiments.benchmarks.intelligibility --data LJSpeech-1.1 --model runs/hifigan --last 4
    python -m experiments.benchmarks.intelligibility --data LJSpeech-1.1 --speech runs/vits_ljspeech --last 20
    python -m experiments.benchmarks.intelligibility --speech runs/vits_ljspeech
    python -m experiments.benchmarks.intelligibility --teacher-forced runs/xtts_decoder --speech runs/xtts_decoder

`--model` is a vocoder or a codec, which resynthesises the recordings; `--speech` is a text-to-speech model, which reads
the texts. `--teacher-forced` is an XTTS, whose language model reads the text and the codes of each recording, and whose
decoder turns its vectors into speech in the voice of the recording.

The recogniser is pocketsphinx with its own English model, which is independent of the training. The result is the ratio
of its word error rate to that on the originals. A clip takes two to three seconds per system on one processor.

Without `--data`, new sentences are composed and read by a voice of espeak-ng, as in the demo corpora. They are used
neither for training nor for the choice of the model. The recogniser then uses bigrams of the sentences of the demo
corpora, and noise at -60 dB is added to all audio. The pauses of a formant synthesiser are digital silence, after which
the recogniser makes errors; without the noise, every system would have fewer errors than the recordings.
"""

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from jaxtyping import Float32

from experiments import voice_conversion
from experiments.benchmarks import common
from experiments.benchmarks.language_model import bigram_arpa
from experiments.benchmarks.word_errors import edits, ratio_interval, words
from experiments.text_to_speech import DEMO_SEED, DEMO_SENTENCES
from jaxvoice.data import Audio, Utterance, find_corpus, make_demo_corpus, read_audio, resample
from jaxvoice.data.demo import SPEAKER_VOICES, VOICES, compose_sentences

RATE = 16000
DECODER = {"cmn": "batch", "fwdflatlw": 6.0, "bestpathlw": 8.0}
"""Settings that differ from the defaults of pocketsphinx. With `cmn="batch"`, clips are independent."""

Waveform = Float32[np.ndarray, " samples"]
System = Callable[[Audio], tuple[Waveform, int]]
"""Maps a recording to the audio to recognise, (samples,) with full scale 1, and its sample rate in Hz."""
Reader = Callable[[str], tuple[Waveform, int]]
"""Maps a text to its speech and the sample rate in Hz."""
TextSystem = Callable[[Audio, str], tuple[Waveform, int]]
"""Maps a recording and its text to the audio to recognise and its sample rate in Hz."""


@dataclass(frozen=True, kw_only=True)
class Options(common.ReportOptions):
    """Settings of the benchmark."""

    data: Path | None = None
    """A corpus with texts: LJSpeech's layout, VCTK's, or a file list; by default new demo sentences."""
    sentences: int = 40
    """Number of sentences to compose without `--data`."""
    voice: str = "us-middle"
    """Voice of the demo corpora that reads them."""
    model: tuple[Path, ...] = ()
    """Model folders or run folders of vocoders or codecs to resynthesise with."""
    speech: tuple[Path, ...] = ()
    """Model folders or run folders of text-to-speech models that read the texts."""
    teacher_forced: tuple[Path, ...] = ()
    """Model folders or run folders of XTTS with a DVAE that read texts and codes of the recordings."""
    speaker: str | None = None
    """Name of the speaker of `--speech`, for models of several voices."""
    reference: Path | None = None
    """Recording of the voice of `--speech`, for models that read references, instead of `--speaker`."""
    language: str | None = None
    """Name of the language of the texts, for models of several languages, such as en in YourTTS."""
    first: int | None = None
    """Number of clips at the start of the corpus."""
    last: int | None = None
    """Number of clips at the end of the corpus, which training holds out."""
    griffin_lim: bool = False
    """Also evaluate Griffin-Lim (32 iterations) from the same mel, as a baseline."""
    kind: Literal["auto", "ljspeech", "vctk", "filelist"] = "auto"
    """Layout of the corpus."""
    json: Path | None = None
    """File for the results, with the recognised text of every clip."""


NOISE = 1e-3
"""Standard deviation of the noise that is added to demo sentences, full scale 1."""


class Recogniser:
    """pocketsphinx with its English model."""

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        try:
            from pocketsphinx import Decoder  # pyright: ignore[reportMissingImports]
        except ImportError as failure:
            raise SystemExit("This benchmark needs pocketsphinx; run pip install pocketsphinx.") from failure
        self._decoder = Decoder(loglevel="FATAL", samprate=RATE, **(DECODER if settings is None else settings))

    def __call__(self, samples: Waveform, rate: int) -> list[str]:
        """The recognised words in `samples`, full scale at 1, at `rate` Hz."""
        levels = np.clip(resample(samples, rate, RATE) * 32768, -32768, 32767)
        self._decoder.start_utt()
        self._decoder.process_raw(np.rint(levels).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        # A pronunciation variant is written with its number: "the(2)".
        return words(re.sub(r"\(\d+\)", "", hypothesis.hypstr)) if hypothesis else []


def bigram_recogniser(texts: Sequence[str]) -> Recogniser:
    """pocketsphinx with its acoustic model and the bigrams of `texts`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bigrams.arpa"
        path.write_text(bigram_arpa([words(text) for text in texts]), encoding="utf-8")
        return Recogniser({**DECODER, "lm": str(path)})


def new_sentences(count: int, voice: str) -> tuple[list[Utterance], list[str]]:
    """`count` sentences that no experiment trains on, read by a demo voice, and those of the demo corpora.

    **Raises:** `SystemExit` for an unknown voice.
    """
    voices = {one.speaker: one for one in (*VOICES, *SPEAKER_VOICES)}
    if voice not in voices:
        raise SystemExit(f"--voice is {voice!r}; it should be one of {', '.join(voices)}.")
    composed = compose_sentences(DEMO_SENTENCES + count, seed=DEMO_SEED)
    of_many = compose_sentences(voice_conversion.DEMO_SENTENCES * len(SPEAKER_VOICES), seed=voice_conversion.DEMO_SEED)
    trained = [*composed[:DEMO_SENTENCES], *of_many]
    new = [text for text in composed[DEMO_SENTENCES:] if text not in of_many]
    return list(make_demo_corpus(None, new, (voices[voice],)).utterances), trained


def original(audio: Audio) -> tuple[Waveform, int]:
    """The recording itself."""
    return audio.samples, audio.sample_rate


def vocoder(path: Path) -> System:
    """The model in the folder `path`, a vocoder or a codec: recording to mel spectrogram or codes to waveform."""
    from jaxvoice.pipelines.sources import load_with_method

    model = load_with_method(path, "resynthesize", "a vocoder or a codec")
    rate = model.sample_rate

    def resynthesise(audio: Audio) -> tuple[Waveform, int]:
        return np.asarray(model.resynthesize(audio.samples, audio.sample_rate), np.float32), rate

    return resynthesise


def reader(
    path: Path, speaker: str | None = None, language: str | None = None, reference: Path | None = None
) -> Reader:
    """The text-to-speech model in the folder `path`, with the names of a speaker and a language of the model.

    `reference` is a recording of the voice, for a model that reads references.
    """
    import jaxvoice

    model = jaxvoice.Synthesizer.load(path)
    given: dict[str, Any] = {"speaker": speaker, "language": language, "reference": reference}
    options = {name: value for name, value in given.items() if value is not None}

    def read(text: str) -> tuple[Waveform, int]:
        speech = model.speak(text, **options)
        return np.asarray(speech.audio, np.float32), speech.sample_rate

    return read


def teacher_forced(path: Path, language: str | None = None) -> TextSystem:
    """The XTTS in the folder `path`: a recording and its text to the speech of the vectors of its codes."""
    import equinox as eqx
    from jax import numpy as jnp

    from jaxvoice.models.xtts.streaming import DecoderStream
    from jaxvoice.nn import freeze
    from jaxvoice.pipelines.sources import find_model_folder
    from jaxvoice.pipelines.xtts_codec import Codec
    from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer

    folder = find_model_folder(path)
    model, codec = XTTSSynthesizer.load(folder), Codec.load(folder / "dvae")
    config, network, of = model.config.gpt, model.network, language or model.languages[0]
    decoder = network.hifigan_decoder
    decoder = eqx.tree_at(lambda one: one.waveform_decoder, decoder, freeze(decoder.waveform_decoder))
    latents = eqx.filter_jit(lambda gpt, *inputs, count: gpt.latents(*inputs, text_count=count))

    def speech(audio: Audio, text: str) -> tuple[Waveform, int]:
        voice, codes = model.voice(audio), codec.encode(audio)
        tokens = [config.start_text, *model.tokenizer.encode(text, of), config.stop_text]
        # Padding keeps the number of programs small.
        padded = np.full(config.max_text + 2, config.stop_text, np.int32)
        padded[: len(tokens)] = tokens
        inputs = np.zeros(min(-(-(len(codes) + 1) // 64) * 64, config.max_audio), np.int32)
        inputs[: len(codes)] = codes
        found = latents(network.gpt, voice.conditioning, padded, inputs, count=jnp.int32(len(tokens)))
        stream = DecoderStream(decoder, voice.speaker)
        parts = [stream.push(np.asarray(found)[: len(codes) + 1]), stream.finish()]
        return np.concatenate(parts), model.sample_rate

    return speech


def griffin_lim(audio: Audio) -> tuple[Waveform, int]:
    """Mel spectrogram inverted by least squares and Griffin-Lim, by librosa, without training."""
    import librosa

    mel = librosa.feature.melspectrogram(
        y=audio.samples, sr=audio.sample_rate, n_fft=1024, hop_length=256, n_mels=80, fmax=8000, power=1.0
    )
    magnitude = librosa.feature.inverse.mel_to_stft(mel, sr=audio.sample_rate, n_fft=1024, fmax=8000, power=1.0)
    seeded: dict[str, Any] = {"random_state" if version("librosa").startswith("0.") else "rng": 0}
    made = librosa.griffinlim(magnitude, n_fft=1024, hop_length=256, **seeded)
    return made.astype(np.float32), audio.sample_rate


def evaluate(
    system: System | None,
    clips: Sequence[Utterance],
    *,
    read: Reader | None = None,
    with_text: TextSystem | None = None,
    recogniser: Callable[[Waveform, int], list[str]] | None = None,
    noise: float = 0.0,
) -> list[dict[str, Any]]:
    """The recognition of each clip: `id`, `errors`, number of `words` in the text, and the recognised text `heard`.

    With `read`, the texts are spoken instead of passing the recordings through `system`, and `with_text` gets both.
    `noise` is the standard deviation of the noise that is added.
    """
    recogniser, random = recogniser or Recogniser(), np.random.default_rng(0)
    results = []
    for clip in clips:
        expected = words(clip.text)
        if read is not None:
            samples, rate = read(clip.text)
        else:
            assert clip.audio is not None
            audio = read_audio(clip.audio)
            if with_text is not None:
                samples, rate = with_text(audio, clip.text)
            else:
                assert system is not None
                samples, rate = system(audio)
        heard = recogniser(samples + noise * random.standard_normal(len(samples), np.float32), rate)
        errors = edits(expected, heard)
        results.append({"id": clip.id, "errors": errors, "words": len(expected), "heard": " ".join(heard)})
    return results


def rows_of(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row per system: its word error rate, and the ratio to that of the originals with an interval over clips."""
    base = [clip["errors"] for clip in results["original"]]
    rows = []
    for name, clips in results.items():
        errors = [clip["errors"] for clip in clips]
        total = sum(clip["words"] for clip in clips)
        low, high = ratio_interval(errors, base)
        rows.append(
            {
                "system": name,
                "clips": len(clips),
                "words": total,
                "errors": sum(errors),
                "word error rate %": 100 * sum(errors) / total,
                "ratio to original": sum(errors) / sum(base) if sum(base) else None,
                "95 % interval": f"{low:.2f} to {high:.2f}",
            }
        )
    return rows


def clips_of(options: Options, data: Path) -> list[Utterance]:
    """The clips of `--data` that have a text, those that `--first` or `--last` choose."""
    clips = [utterance for utterance in find_corpus(data, options.kind).utterances if words(utterance.text)]
    clips = clips[: options.first] if options.last is None else clips[-options.last :]
    if not clips:
        raise SystemExit(f"{data} has no clips with a text; the word error rate needs texts.")
    return clips


def main(options: Options) -> None:
    """Run the benchmark."""
    if options.first is not None and options.last is not None:
        raise SystemExit("--first and --last cannot be combined; pass only one of them.")
    if options.data is None:
        clips, texts = new_sentences(options.sentences, options.voice)
        recogniser, noise = bigram_recogniser(texts), NOISE
    else:
        clips, recogniser, noise = clips_of(options, options.data), Recogniser(), 0.0
    systems: dict[str, System] = {"original": original}
    if options.griffin_lim:
        systems["Griffin-Lim"] = griffin_lim
    systems |= {str(path): vocoder(path) for path in options.model}
    forced = {f"{path} (teacher-forced)": teacher_forced(path, options.language) for path in options.teacher_forced}
    readers = {
        f"{path} (text)": reader(path, options.speaker, options.language, options.reference) for path in options.speech
    }
    results = {}
    for name in (*systems, *forced, *readers):
        how = {"read": readers.get(name), "with_text": forced.get(name)}
        results[name] = evaluate(systems.get(name), clips, **how, recogniser=recogniser, noise=noise)
        print(f"{name}: {sum(clip['errors'] for clip in results[name])} errors in {len(clips)} clips", flush=True)
    common.report("intelligibility", options, rows_of(results), decoder=DECODER, clips=results)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
