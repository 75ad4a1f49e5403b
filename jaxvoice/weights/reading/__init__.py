"""Weight files of any origin, read without torch and without running what is in them."""

from jaxvoice.weights.reading.archives import PickleArchive, TorchScriptArchive
from jaxvoice.weights.reading.objects import Global, Record, StorageRef, TensorRef
from jaxvoice.weights.reading.opening import open_archive

__all__ = ["Global", "PickleArchive", "Record", "StorageRef", "TensorRef", "TorchScriptArchive", "open_archive"]
