"""The errors jaxvoice raises on purpose.

Every message says what is wrong, the offending value and what to do about it. The command line prints them as one line
and exits with code 2, as it does for an `OSError`; any other exception is a bug and keeps its traceback.
"""

import inspect
import warnings


class JaxvoiceError(Exception):
    """Base of every error that jaxvoice raises on purpose."""


class ConfigError(JaxvoiceError, ValueError):
    """A configuration is inconsistent, or a configuration file cannot be read."""


class ShapeError(JaxvoiceError, ValueError):
    """An array has the wrong shape, rate or value range for what it is given to."""


class AudioError(JaxvoiceError, ValueError):
    """An audio file cannot be read or written, or its content cannot be used."""


class DataError(JaxvoiceError):
    """A corpus is missing, empty, or holds nothing that can be used."""


class MelError(JaxvoiceError, ValueError):
    """A mel spectrogram does not follow the mel contract of the model it is given to."""


class TextError(JaxvoiceError, ValueError):
    """A text cannot be spoken, or a phoneme is not one of the set; the message names the nearest codes."""


class CheckpointError(JaxvoiceError):
    """A model folder or run folder is missing, damaged, or belongs to another configuration."""


class RefusedError(CheckpointError):
    """A weight file asks for something that reading never does, such as calling a function; it may be hostile."""


class UnsupportedOperatorError(CheckpointError):
    """A TorchScript archive calls an operator that its interpreter lacks, or uses one in a way it refuses.

    The message names the operator, the module, the place in the archive's code, and how to add one.
    """


class TrainingError(JaxvoiceError):
    """Training cannot go on, for example because losses stay non-finite."""


class MissingExtraError(JaxvoiceError, ImportError):
    """An optional dependency is needed; the message names the extra that brings it."""


class JaxvoiceWarning(UserWarning):
    """What is done may not be what was meant; the message says what was seen."""


def warn_caller(message: str) -> None:
    """Issue a `JaxvoiceWarning` that points to the line outside the package from which it was called."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "jaxvoice":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, JaxvoiceWarning, stacklevel=level)
