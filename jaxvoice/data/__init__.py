"""From audio files to batches: reading, corpora, preflight, crops, the demo corpus."""

from jaxvoice.data.audio import (
    Audio as Audio,
    AudioInfo as AudioInfo,
    audio_info as audio_info,
    read_audio as read_audio,
    resample as resample,
    write_wav as write_wav,
)
from jaxvoice.data.corpora import Corpus as Corpus, find_corpus as find_corpus
from jaxvoice.data.demo import Voice as Voice, make_demo_corpus as make_demo_corpus
from jaxvoice.data.folders import cache_folder as cache_folder
from jaxvoice.data.layouts import Utterance as Utterance
from jaxvoice.data.loader import Batch as Batch, Loader as Loader, LoaderState as LoaderState
from jaxvoice.data.mels import read_mel as read_mel
from jaxvoice.data.preflight import Preflight as Preflight, Rejected as Rejected, preflight as preflight
from jaxvoice.data.splits import split as split
from jaxvoice.data.store import Store as Store, load_store as load_store
