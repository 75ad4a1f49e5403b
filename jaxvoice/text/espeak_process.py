"""Convert texts to the IPA with espeak-ng. A separate program, so that no other process loads the GPL library.

    python -m jaxvoice.text.espeak_process VOICE < texts.json

Reads a list of texts in JSON from standard input, and writes the list of their IPA to standard output.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

_RETRIEVAL, _DO_NOT_EXIT = 1, 0x8000
_UTF8, _IPA = 1, 0x02


def to_ipa(texts: list[str], voice: str) -> list[str]:
    """The IPA of each text, with stress marks; raises `RuntimeError` if espeak-ng has no such voice."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    # A relative path, because the library supports at most 160 bytes, and on Windows only the code page.
    os.chdir(Path(espeakng_loader.get_data_path()).parent)
    if library.espeak_Initialize(_RETRIEVAL, 0, b".", _DO_NOT_EXIT) <= 0:
        raise RuntimeError(f"espeak-ng cannot start with the voices in {espeakng_loader.get_data_path()}")
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise RuntimeError(f"espeak-ng has no voice {voice!r}")
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int)
    results = []
    for text in texts:
        rest, clauses = ctypes.c_char_p(text.encode("utf-8")), []
        while rest.value:
            found = library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA)
            clauses.append((found or b"").decode("utf-8").strip())
        results.append(" ".join(clause for clause in clauses if clause))
    return results


if __name__ == "__main__":
    try:
        json.dump(to_ipa(json.loads(sys.stdin.buffer.read()), sys.argv[1]), sys.stdout)
    except (RuntimeError, OSError) as failure:
        sys.exit(str(failure))
