"""Pipelines without networks for the tests of the server: each has the methods of one kind of model."""

import threading

import numpy as np

from jaxvoice.errors import ConfigError
from jaxvoice.pipelines.recordings import read_recordings, several
from jaxvoice.pipelines.synthesizer import Speech

RATE = 8000
LONG = 60  # seconds, never reached


def tone(seconds: float, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * RATE)) / 5)).astype(np.float32)


class Speaker:
    """Text to speech in one voice: 0.1 s for each character, computed at once."""

    sample_rate = RATE

    def __init__(self):
        self.calls = []

    def speak(self, text, *, speed=1.0, seed=0):
        self.calls.append((text, speed, seed))
        if not text.strip():
            raise ConfigError("text is empty; see /srv/models/secret/config.json.")
        audio = tone(0.1 * len(text) / speed)
        return Speech(audio, RATE, np.zeros((1, 1), np.float32), (), np.zeros(0, np.int64), ())


class Cloner:
    """Text to speech in known voices and in those of recordings, in blocks; and conversion."""

    sample_rate, speakers, languages = RATE, ("anna", "ben"), ("en", "pt")

    def __init__(self):
        self.calls = []

    def speak(self, text, *, language=None, speaker=None, reference=None, temperature=0.7, stream=False):
        assert stream
        self.calls.append((text, language, speaker, temperature))
        if reference is not None:
            self.calls.append([(one.name, round(one.seconds, 2)) for one in read_recordings(reference, None, "r")])
        return iter([tone(0.5), tone(0.25)])

    def encode_voice(self, reference):
        return reference

    def convert(self, source, voice, *, speaker=None, seed=0):
        return np.concatenate(list(self.convert_chunks(source, voice, speaker=speaker, seed=seed)))

    def convert_chunks(self, source, voice, *, speaker=None, seed=0):
        self.calls.append((source.name, [one.name for one in voice] if several(voice) else voice, speaker, seed))
        return iter([tone(source.seconds)])


class Table(Cloner):
    """A model with a table of speakers, and no voices of recordings."""

    reads_references = False


class Vocoder:
    """A vocoder of mels, as `resynthesize` uses it."""

    sample_rate, channels, mel = RATE, 80, "a contract"

    def option_names(self):
        return ("sigma",)

    def resynthesize(self, audio, sample_rate, **options):
        assert audio.ndim == 1 and sample_rate == RATE
        return audio * options.get("sigma", 1.0)


class LatentVocoder(Vocoder):
    @property
    def mel(self):
        raise ConfigError("The vocoder reads latents.")


class Autoencoder:
    """Audio of two channels through latents, in parts."""

    sample_rate, channels = RATE, 2

    def transfer_parts(self, audio, sample_rate, *, seed=None):
        assert audio.shape[0] == 2 and sample_rate == RATE
        yield from np.array_split(audio, 3, axis=1)


class Gated(Speaker):
    """Text to speech that waits for an event before each of two blocks, and lists the texts in their order."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.closed = threading.Event(), threading.Event(), threading.Semaphore(0)

    def speak(self, text, *, stream=False):
        assert stream
        return self._blocks(text)

    def _blocks(self, text):
        self.calls.append(text)
        try:
            assert self.first.wait(LONG)
            yield tone(0.1)
            assert self.second.wait(LONG)
            yield tone(0.1)
        finally:
            self.closed.release()
