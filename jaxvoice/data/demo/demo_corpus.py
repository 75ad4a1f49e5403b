"""The demo corpus, which is synthesised once and verified at every use."""

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxvoice.data.atomic_folders import atomic_folder, cache_folder, remove_folder
from jaxvoice.data.corpora import find_corpus
from jaxvoice.data.demo.sentences import SENTENCES
from jaxvoice.data.demo.timings import Phoneme, Timings, correct_onsets
from jaxvoice.data.utterances import Corpus
from jaxvoice.errors import ConfigError, DataError, MissingExtraError

_VERSION = 1
_MANIFEST = "manifest.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Voice:
    """A speaker of the demo corpus.

    `espeak` is a voice of espeak-ng: a language, and a variant after `+`. `rate` is in words a minute; `pitch` and
    `pitch_range` are from 0 to 100.

    **Raises:** `ConfigError` for values out of range.
    """

    speaker: str
    espeak: str
    rate: int = 160
    pitch: int = 50
    pitch_range: int = 50

    def __post_init__(self):
        if not self.speaker or "|" in self.speaker:
            raise ConfigError(f"Voice.speaker is {self.speaker!r}; it should be text without '|'.")
        if not 80 <= self.rate <= 450:
            raise ConfigError(f"Voice.rate of {self.speaker!r} is {self.rate}; it should be from 80 to 450.")
        for name in ("pitch", "pitch_range"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(
                    f"Voice.{name} of {self.speaker!r} is {getattr(self, name)}; it should be from 0 to 100."
                )


# Without voices with an echo, which would fill the silent closures by which `correct_onsets` finds stops.
VOICES = (
    Voice("us-middle", "en-us"),
    Voice("us-high", "en-us+f1", pitch=45),
    Voice("us-low", "en-us+m3", rate=150, pitch=35),
    Voice("gb-middle", "en-gb-x-rp", rate=155, pitch=45),
    Voice("scotland-high", "en-gb-scotland+f1", rate=155, pitch=65),
)
"""The speakers of the demo corpus."""
SPEAKER_VOICES = (
    Voice("annie", "en-us+Annie", rate=150),
    Voice("max", "en-us+m3"),
    Voice("sam", "en-us"),
    Voice("linda", "en-us+linda", rate=155),
    Voice("victor", "en-us+victor", rate=165),
    Voice("steph", "en-us+steph"),
    Voice("edward", "en-us+edward", rate=150),
    Voice("shelby", "en-us+shelby"),
    Voice("mark", "en-us+m8", rate=155),
    Voice("fay", "en-us+f1", rate=165),
    Voice("antonio", "en-us+antonio"),
    Voice("rose", "en-us+grandma", rate=145),
    Voice("gene", "en-us+Gene", rate=165),
    Voice("aunty", "en-us+aunty"),
    Voice("mike", "en-us+m7", rate=150),
    Voice("tom", "en-us+Tweaky"),
)
"""Speakers whose voices differ more than those of `VOICES`, for models of several speakers."""


def make_demo_corpus(
    folder: str | Path | None = None,
    sentences: Sequence[str] | None = None,
    voices: Sequence[Voice] | None = None,
) -> Corpus:
    """Synthesise English speech with espeak-ng, by default about five minutes by five speakers, at 22,050 Hz.

    Voice i modulo the number of voices speaks sentence i. `folder` is by default a folder in the user's cache folder,
    named by a hash of sentences and voices. It has the layout of LJSpeech and contains `metadata.csv` (with the speaker
    as fourth field), `wavs/<id>.wav`, `timings/<id>.json` (see `read_timings`) and `manifest.json` with a checksum of
    every file. The first call synthesises the corpus, offline and in another process. Later calls verify the checksums,
    and synthesise the corpus again if a file is damaged.

    The speech of espeak-ng, a formant synthesiser, is intelligible and has exact timings, but is not natural.

    **Raises:** `MissingExtraError` without the extra `demo`; `DataError` for text that cannot be spoken, a `folder`
    with other content, or a folder that cannot be written.
    """
    job = _job(SENTENCES if sentences is None else sentences, VOICES if voices is None else voices)
    key = hashlib.sha256(json.dumps([_VERSION, job]).encode()).hexdigest()[:16]
    target = Path(folder).expanduser() if folder is not None else cache_folder("demo", key)
    damage = _damage(target, key)
    if damage is not None:
        if (target / _MANIFEST).exists():
            _log.warning("%s is damaged (%s) and is made again", target, damage)
            remove_folder(target)
        try:
            with atomic_folder(target) as making:
                _make(making, job, key)
        except OSError as failure:
            raise DataError(
                f"The demo corpus cannot be written to {target} ({failure.strerror}); choose another folder, "
                "or set JAXVOICE_CACHE to one with space."
            ) from failure
        damage = _damage(target, key)
        if damage is not None:
            raise DataError(f"The demo corpus in {target} was damaged while it was written ({damage}); try again.")
    return find_corpus(target, "ljspeech")


def _job(sentences: Sequence[str], voices: Sequence[Voice]) -> list[dict[str, Any]]:
    if not sentences or not voices:
        raise DataError(
            f"There are {len(sentences)} sentences and {len(voices)} voices; there should be at least one of each."
        )
    job = []
    for number, sentence in enumerate(sentences):
        text = " ".join(sentence.split())
        if not text or "|" in text or "\0" in text:
            raise DataError(f"Sentence {number} is {sentence!r}; it should be text without '|'.")
        voice = dataclasses.asdict(voices[number % len(voices)])
        job.append({"id": f"D{number + 1:04d}", "text": text, "voice": voice.pop("espeak"), **voice})
    return job


def _damage(folder: Path, key: str) -> str | None:
    """The damage of the corpus in `folder`, or `None`.

    **Raises:** `DataError` if `folder` has other content, which is not replaced.
    """
    manifest = folder / _MANIFEST
    if not manifest.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} exists and is not a demo corpus; choose a new or empty folder.")
        return "not made yet"
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        made_from, checksums = content["key"], content["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{_MANIFEST} cannot be read"
    if made_from != key:
        raise DataError(f"{folder} contains a demo corpus of other sentences or voices; choose a new or empty folder.")
    for name, checksum in checksums.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _sha256(path) != checksum:
            return f"{name} does not have the checksum in {_MANIFEST}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make(folder: Path, job: list[dict[str, Any]], key: str) -> None:
    report = _speak(folder, job)
    rate = report["sample_rate"]
    (folder / "timings").mkdir()
    lines = []
    for item in job:
        name, text = item["id"], item["text"]
        audio = _samples(folder / "wavs" / f"{name}.wav")
        raw = tuple(Phoneme(mnemonic, onset) for mnemonic, onset in report["events"][name])
        if not raw or not audio.any():
            raise DataError(f"espeak-ng is silent on {text!r} with the voice {item['voice']!r}; change the sentence.")
        timings = Timings(name, rate, len(audio), correct_onsets(raw, audio, rate), raw)
        timings.save(folder / "timings" / f"{name}.json")
        lines.append(f"{name}|{text}|{text}|{item['speaker']}\n")
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8", newline="\n")
    (folder / "events.json").unlink()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "about": "Synthetic speech made by espeak-ng for jaxvoice's demonstrations.",
        "key": key,
        "espeak_ng": report["version"],
        "espeakng_loader": importlib.metadata.version("espeakng-loader"),
        "sha256": {path.relative_to(folder).as_posix(): _sha256(path) for path in files},
    }
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _speak(folder: Path, job: list[dict[str, Any]]) -> dict[str, Any]:
    """Run the program `jaxvoice.data.demo.espeak` on `job`, and return its report."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise MissingExtraError(
            "The demo corpus needs espeak-ng, which is not installed; run pip install 'jaxvoice[demo]', or use another "
            "corpus."
        )
    request = folder / "job.json"
    request.write_text(json.dumps(job), encoding="utf-8")
    program = [sys.executable, "-P", "-m", "jaxvoice.data.demo.espeak", str(request.resolve()), str(folder.resolve())]
    search = os.pathsep.join(path for path in sys.path if path)
    environment = os.environ | {"PYTHONPATH": search, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(program, env=environment, capture_output=True, encoding="utf-8", errors="replace")
    request.unlink()
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise DataError(f"espeak-ng failed: {reason}. Reinstall jaxvoice[demo] if this persists.")
    return json.loads((folder / "events.json").read_text(encoding="utf-8"))


def _samples(path: Path) -> np.ndarray:
    import soundfile

    return soundfile.read(path, dtype="int16")[0]
