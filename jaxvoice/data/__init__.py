"""From audio files to batches: reading, corpora, preflight, crops, the demo corpus."""

from jaxvoice.data.audio import Audio as Audio
from jaxvoice.data.audio import AudioInfo as AudioInfo
from jaxvoice.data.audio import audio_info as audio_info
from jaxvoice.data.audio import read_audio as read_audio
from jaxvoice.data.audio import resample as resample
from jaxvoice.data.audio import write_wav as write_wav
from jaxvoice.data.corpora import Corpus as Corpus
from jaxvoice.data.corpora import find_corpus as find_corpus
from jaxvoice.data.demo import Voice as Voice
from jaxvoice.data.demo import make_demo_corpus as make_demo_corpus
from jaxvoice.data.folders import cache_folder as cache_folder
from jaxvoice.data.layouts import Utterance as Utterance
from jaxvoice.data.loader import Batch as Batch
from jaxvoice.data.loader import Loader as Loader
from jaxvoice.data.loader import LoaderState as LoaderState
from jaxvoice.data.mels import read_mel as read_mel
from jaxvoice.data.preflight import Preflight as Preflight
from jaxvoice.data.preflight import Rejected as Rejected
from jaxvoice.data.preflight import preflight as preflight
from jaxvoice.data.splits import split as split
from jaxvoice.data.store import Store as Store
from jaxvoice.data.store import load_store as load_store
