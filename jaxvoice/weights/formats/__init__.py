"""Weight files of any origin, read without torch and without running what is in them."""

from jaxvoice.weights.formats.opening import open_archive
from jaxvoice.weights.formats.pickle_archives import PickleArchive, TorchScriptArchive
from jaxvoice.weights.formats.pickle_objects import Global, Record, StorageRef, TensorRef

__all__ = ["Global", "PickleArchive", "Record", "StorageRef", "TensorRef", "TorchScriptArchive", "open_archive"]
