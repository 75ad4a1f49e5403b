"""The demo corpus: a few minutes of synthetic English speech with exact phoneme timings, made offline on first use."""

from jaxvoice.data.demo.corpus import make_demo_corpus as make_demo_corpus
from jaxvoice.data.demo.sentences import SENTENCES as SENTENCES
from jaxvoice.data.demo.timings import Phoneme as Phoneme
from jaxvoice.data.demo.timings import Timings as Timings
from jaxvoice.data.demo.timings import durations_in_frames as durations_in_frames
from jaxvoice.data.demo.timings import read_timings as read_timings
from jaxvoice.data.demo.timings import repair as repair
from jaxvoice.data.demo.voices import VOICES as VOICES
from jaxvoice.data.demo.voices import Voice as Voice
