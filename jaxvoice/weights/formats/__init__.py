"""Readers of weight files. They need no torch and execute no code from the files."""

from jaxvoice.weights.formats.opening import open_archive
from jaxvoice.weights.formats.pickle_archives import PickleArchive, TorchScriptArchive
from jaxvoice.weights.formats.pickle_objects import Global, Record, StorageRef, TensorRef

__all__ = ["Global", "PickleArchive", "Record", "StorageRef", "TensorRef", "TorchScriptArchive", "open_archive"]
