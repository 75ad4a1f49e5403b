"""High-level interface: `Synthesizer`, `Vocoder` and other pipelines, and functions to import, export and compare
weights."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.pipelines.aligner import Aligner as Aligner, ForcedAlignment as ForcedAlignment
    from jaxvoice.pipelines.comparing import compare as compare
    from jaxvoice.pipelines.content_encoder import ContentEncoder as ContentEncoder
    from jaxvoice.pipelines.exporting import export_model as export_model
    from jaxvoice.pipelines.hifigan_vocoder import HiFiGANVocoder as HiFiGANVocoder
    from jaxvoice.pipelines.importing import import_model as import_model
    from jaxvoice.pipelines.rave import Rave as Rave
    from jaxvoice.pipelines.sources import load as load
    from jaxvoice.pipelines.speaker_encoder import SpeakerEncoder as SpeakerEncoder
    from jaxvoice.pipelines.synthesizer import Speech as Speech, Synthesizer as Synthesizer
    from jaxvoice.pipelines.teacher_forcing import TeacherForced as TeacherForced, teacher_force as teacher_force
    from jaxvoice.pipelines.vits_synthesizer import VITSSynthesizer as VITSSynthesizer
    from jaxvoice.pipelines.vocoder import Vocoder as Vocoder
    from jaxvoice.pipelines.voice import Voice as Voice
    from jaxvoice.pipelines.voice_converter import VoiceConverter as VoiceConverter
    from jaxvoice.pipelines.waveglow_vocoder import WaveGlowVocoder as WaveGlowVocoder
    from jaxvoice.pipelines.xtts_codec import Codec as Codec
    from jaxvoice.pipelines.xtts_speech import SpokenPiece as SpokenPiece, XTTSSpeech as XTTSSpeech
    from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer as XTTSSynthesizer
    from jaxvoice.pipelines.xtts_voice import XTTSVoice as XTTSVoice

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "aligner": ("Aligner", "ForcedAlignment"),
        "comparing": ("compare",),
        "content_encoder": ("ContentEncoder",),
        "exporting": ("export_model",),
        "hifigan_vocoder": ("HiFiGANVocoder",),
        "importing": ("import_model",),
        "rave": ("Rave",),
        "sources": ("load",),
        "speaker_encoder": ("SpeakerEncoder",),
        "synthesizer": ("Speech", "Synthesizer"),
        "teacher_forcing": ("TeacherForced", "teacher_force"),
        "vits_synthesizer": ("VITSSynthesizer",),
        "vocoder": ("Vocoder",),
        "voice": ("Voice",),
        "voice_converter": ("VoiceConverter",),
        "waveglow_vocoder": ("WaveGlowVocoder",),
        "xtts_codec": ("Codec",),
        "xtts_speech": ("SpokenPiece", "XTTSSpeech"),
        "xtts_synthesizer": ("XTTSSynthesizer",),
        "xtts_voice": ("XTTSVoice",),
    },
)
