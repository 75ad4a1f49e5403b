"""What reading one file may still cost: one account for everything in the file that takes time or memory."""

from jaxvoice.errors import RefusedError
from jaxvoice.weights.reading import limits

# Bytes of memory at most: of an empty list, dict or tuple; of an item of a dict with its part of the table, which is
# half empty; of a record, a tensor or an array with its parts.
CONTAINER, ITEM, RECORD = 96, 120, 200


class Budget:
    """What is left for a file. One object is shared by the zip file, every pickle in it, and the walk over them.

    - `size`: bytes of the file; large files may take longer, since they can hold more tensors.
    """

    def __init__(self, size: int):
        self.work = self._all_work = min(limits.WORK + size + size // 8, limits.MOST_WORK)
        """What is left of the time, in opcodes of a pickle; about a fifth of a microsecond each."""
        self.steps = limits.STEPS
        """How many more opcodes all pickles together may have."""
        self.memory = limits.MEMORY
        """What is left of the memory, in bytes."""
        self.tuple_keys = limits.TUPLE_KEYS
        """How many more keys may be tuples."""
        self.nodes = limits.NODES
        """How many more values may be walked over."""
        self.names = limits.NAMES
        """How many more characters all dotted names together may have."""
        self.tensors = limits.TENSORS
        """How many more tensors there may be."""
        self.modules = limits.TREE
        """How many more modules the names may imply."""

    def charge(self, what: str, *, work: int = 0, memory: int = 0) -> None:
        """Take from what is left; raises `RefusedError`, which names `what`, when nothing is."""
        self.work -= work
        self.memory -= memory
        if self.work < 0:
            raise RefusedError(
                f"{what} takes more than {self._all_work:,} steps to read; no weight file of this size needs so many."
            )
        if self.memory < 0:
            raise RefusedError(
                f"{what} takes more than {limits.MEMORY >> 20} MiB of memory beside the elements of its tensors; no "
                "weight file needs so much."
            )
