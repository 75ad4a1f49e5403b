"""Demo corpora, synthesised offline on first use: English speech with exact phoneme timings, and instruments."""

from jaxvoice._lazy import list_public
from jaxvoice.data.demo.demo_corpus import (
    SPEAKER_VOICES as SPEAKER_VOICES,
    VOICES as VOICES,
    Voice as Voice,
    make_demo_corpus as make_demo_corpus,
)
from jaxvoice.data.demo.instruments import (
    INSTRUMENTS as INSTRUMENTS,
    instrument_phrase as instrument_phrase,
    make_instrument_corpus as make_instrument_corpus,
)
from jaxvoice.data.demo.sentences import SENTENCES as SENTENCES, compose_sentences as compose_sentences
from jaxvoice.data.demo.timings import (
    Phoneme as Phoneme,
    Timings as Timings,
    correct_onsets as correct_onsets,
    read_timings as read_timings,
)

__dir__ = list_public(globals())
