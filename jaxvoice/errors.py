"""The exceptions and warnings of jaxvoice.

Every message contains the invalid value, the values that are valid, and often a remedy. The command line prints the
message on one line and exits with code 2, also for an `OSError`. Any other exception is a bug and keeps its traceback.
"""

import inspect
import warnings


class JaxvoiceError(Exception):
    """Base class of the errors of jaxvoice."""


class ConfigError(JaxvoiceError, ValueError):
    """A configuration is inconsistent, or a configuration file cannot be read."""


class ShapeError(JaxvoiceError, ValueError):
    """The shape, sample rate or range of values of an array is not valid for the function or model."""


class AudioError(JaxvoiceError, ValueError):
    """An audio file cannot be read or written, or its content cannot be used."""


class DataError(JaxvoiceError):
    """A corpus is missing or empty, or contains no usable utterances."""


class MelError(JaxvoiceError, ValueError):
    """A mel spectrogram does not match the mel contract of the model."""


class TextError(JaxvoiceError, ValueError):
    """A text cannot be converted to phonemes, or a phoneme code is unknown. The message contains the nearest codes."""


class CheckpointError(JaxvoiceError):
    """A weight file, model folder or run folder is missing or damaged, or does not match the configuration."""


class RefusedError(CheckpointError):
    """A weight file was refused: reading it would execute code or exceed a limit.

    The message says so if the file may be malicious.
    """


class UnsupportedOperatorError(CheckpointError):
    """A TorchScript archive calls an operator, or an overload of one, that the interpreter does not implement.

    The message contains the operator, the module, the position in the archive's code, and how to add the operator.
    """


class TrainingError(JaxvoiceError):
    """Training cannot continue, for example because losses are not finite."""


class MissingExtraError(JaxvoiceError, ImportError):
    """An optional dependency is missing. The message contains the extra that installs it."""


class JaxvoiceWarning(UserWarning):
    """An input is valid but unusual, so that the result may not be the intended one."""


def warn_caller(message: str) -> None:
    """Issue a `JaxvoiceWarning` for the line outside jaxvoice that called the library."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "jaxvoice":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, JaxvoiceWarning, stacklevel=level)
