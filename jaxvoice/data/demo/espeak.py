"""Speak sentences with espeak-ng. A separate program, so that no other process loads the GPL library.

    python -m jaxvoice.data.demo.espeak job.json folder

`job.json` contains a list of `{id, text, voice, rate, pitch, pitch_range}`. The program writes `folder/wavs/<id>.wav`
and `folder/events.json`: `{version, sample_rate, events: {id: [[mnemonic, sample], ...]}}`, with the sample at which
each phoneme starts. The output depends on the order of the sentences. It is reproducible in a new process only.
"""

import ctypes
import json
import os
import sys
import wave
from pathlib import Path
from typing import Any

_SYNCHRONOUS, _PHONEME_EVENTS, _DO_NOT_EXIT = 2, 0x0001, 0x8000
_UTF8, _PAUSE_AT_END = 0x0001, 0x1000
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4
_END_OF_LIST, _PHONEME = 0, 7


class _Identity(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng's `speak_lib.h`; `sample` counts from the start of the sentence."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Speaker:
    """The initialised library. `audio` and `phonemes` contain the output for the last sentence."""

    def __init__(self):
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        # A relative path, because the library supports at most 160 bytes, and on Windows only the code page.
        os.chdir(Path(espeakng_loader.get_data_path()).parent)
        options = _PHONEME_EVENTS | _DO_NOT_EXIT
        self.sample_rate = self._library.espeak_Initialize(_SYNCHRONOUS, 200, b".", options)
        if self.sample_rate <= 0:
            raise RuntimeError(f"espeak-ng cannot start with the voices in {espeakng_loader.get_data_path()}")
        self._library.espeak_Info.restype = ctypes.c_char_p
        self.version = self._library.espeak_Info(None).decode()
        self.audio = bytearray()
        self.phonemes: list[tuple[str, int]] = []
        self._callback = _Callback(self._receive)  # an attribute, so that Python does not free it
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.audio += ctypes.string_at(samples, 2 * count)
        index = 0
        while events[index].type != _END_OF_LIST:
            if events[index].type == _PHONEME:
                self.phonemes.append((events[index].id.string.decode("utf-8"), events[index].sample))
            index += 1
        return 0

    def speak(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int) -> None:
        self.audio.clear()
        self.phonemes.clear()
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_PITCH_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode("utf-8")
        size = ctypes.c_size_t(len(data) + 1)
        if self._library.espeak_Synth(data, size, 0, 1, 0, _UTF8 | _PAUSE_AT_END, None, None) != 0:
            raise RuntimeError(f"espeak-ng failed on {text!r}")


def main(job: Path, folder: Path) -> None:
    """Speak the sentences in the file `job`, and write audio and phonemes to `folder`."""
    sentences = json.loads(job.read_text(encoding="utf-8"))
    folder = folder.resolve()
    (folder / "wavs").mkdir(parents=True, exist_ok=True)
    speaker = _Speaker()
    events = {}
    for item in sentences:
        speaker.speak(item["text"], item["voice"], item["rate"], item["pitch"], item["pitch_range"])
        if not speaker.audio:
            raise RuntimeError(f"espeak-ng returned no audio for {item['text']!r}")
        with wave.open(str(folder / "wavs" / f"{item['id']}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(speaker.sample_rate)
            file.writeframes(bytes(speaker.audio))
        events[item["id"]] = list(speaker.phonemes)
    report = {"version": speaker.version, "sample_rate": speaker.sample_rate, "events": events}
    (folder / "events.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except (RuntimeError, OSError) as failure:
        sys.exit(str(failure))
