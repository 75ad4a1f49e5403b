"""The demo corpus: minutes of synthetic English speech with exact phoneme timings, synthesised offline on first use."""

from jaxvoice._lazy import list_public
from jaxvoice.data.demo.demo_corpus import (
    SPEAKER_VOICES as SPEAKER_VOICES,
    VOICES as VOICES,
    Voice as Voice,
    make_demo_corpus as make_demo_corpus,
)
from jaxvoice.data.demo.sentences import SENTENCES as SENTENCES, compose_sentences as compose_sentences
from jaxvoice.data.demo.timings import (
    Phoneme as Phoneme,
    Timings as Timings,
    correct_onsets as correct_onsets,
    read_timings as read_timings,
)

__dir__ = list_public(globals())
