"""jaxvoice: published speech systems in JAX and Equinox; train them, run them, take them apart."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports
from jaxvoice._version import __version__ as __version__

if TYPE_CHECKING:
    from jaxvoice.data import make_demo_corpus as make_demo_corpus, read_audio as read_audio, write_wav as write_wav
    from jaxvoice.dsp import MelConfig as MelConfig, log_mel as log_mel
    from jaxvoice.models.hifigan import Generator as Generator, HiFiGANConfig as HiFiGANConfig
    from jaxvoice.pipelines import (
        Aligner as Aligner,
        Codec as Codec,
        Rave as Rave,
        SpeakerEncoder as SpeakerEncoder,
        Synthesizer as Synthesizer,
        Vocoder as Vocoder,
        Voice as Voice,
        VoiceConverter as VoiceConverter,
        compare as compare,
        export_model as export_model,
        import_model as import_model,
        load as load,
    )
    from jaxvoice.weights import open_archive as open_archive

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "data": ("make_demo_corpus", "read_audio", "write_wav"),
        "dsp": ("MelConfig", "log_mel"),
        "models.hifigan": ("Generator", "HiFiGANConfig"),
        "pipelines": (
            "Aligner",
            "Codec",
            "Rave",
            "SpeakerEncoder",
            "Synthesizer",
            "Vocoder",
            "Voice",
            "VoiceConverter",
            "compare",
            "export_model",
            "import_model",
            "load",
        ),
        "weights": ("open_archive",),
    },
)
