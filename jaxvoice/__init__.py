"""jaxvoice: published speech systems in JAX and Equinox; train them, run them, take them apart."""

from typing import TYPE_CHECKING, Any

from jaxvoice._version import __version__ as __version__

if TYPE_CHECKING:
    from jaxvoice.data import make_demo_corpus as make_demo_corpus, read_audio as read_audio, write_wav as write_wav
    from jaxvoice.dsp import MelConfig as MelConfig, log_mel as log_mel
    from jaxvoice.models.hifigan import Generator as Generator, HiFiGANConfig as HiFiGANConfig
    from jaxvoice.pipelines import Vocoder as Vocoder

_HOMES = {
    "Generator": "jaxvoice.models.hifigan",
    "HiFiGANConfig": "jaxvoice.models.hifigan",
    "MelConfig": "jaxvoice.dsp",
    "Vocoder": "jaxvoice.pipelines",
    "log_mel": "jaxvoice.dsp",
    "make_demo_corpus": "jaxvoice.data",
    "read_audio": "jaxvoice.data",
    "write_wav": "jaxvoice.data",
}


def __getattr__(name: str) -> Any:
    # Imported when first asked for, so that `import jaxvoice` and the command line start at once (PEP 562).
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'jaxvoice' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
