"""Limits for reading weight files. Real files stay far below them; a file that exceeds a limit is refused.

With these limits, a file is refused within 200 MB of memory, which includes the pages of the file that were read. A
file of up to 2 MB is refused within one second. Each further megabyte may add a quarter of a second, because it can
contain more tensors, up to 4.5 s in all. `Budget` counts.
"""

from jaxvoice.errors import RefusedError

# Time, in opcodes of a pickle; one takes about 0.2 microseconds. Other operations count as several opcodes. A
# tensor counts as about 300: 30 opcodes, its reference, its storage, its entry in the zip file and its names.
WORK = 1_500_000
# Each byte of the file adds a little more than one opcode, because a tensor takes at least 300 bytes of a file.
MOST_WORK = 23_000_000
# Opcodes of all pickles of a file.
STEPS = 2_200_000
# Bytes of memory for everything except the elements of tensors: values, pickles, text.
MEMORY = 184 * 2**20
# Values on the stack of the unpickler: writers flush every 1000.
STACK = 100_000
# Bytes of the name of a class or function, or of a number written as text.
LINE = 1024
# Bytes of one integer: the largest in real files are 128-bit seeds; decimal conversion is quadratic.
INTEGER = 255
# Keys that are tuples: crafted hash collisions make dicts quadratic.
TUPLE_KEYS = 1500
# Integer keys: Python's hashes of larger integers repeat.
INTEGER_KEY = 2**60
# Depth of nested containers and parts of a dotted name: real modules nest 20 deep. `walk` needs four frames a level.
DEPTH = 100

# Values that `walk` visits. Lists that contain a list ten times, nested, have more values than the file has bytes.
NODES = 200_000
# Characters of one dotted name, and of all dotted names together.
NAME_LENGTH = 2000
NAMES_LENGTH = 6 * 2**20
# Modules in the tree of all names.
MODULES = 100_000

# Tensors: optimisers keep two per parameter, and large models have thousands.
TENSORS = 60_000
# Axes of a tensor: torch's layers use up to five.
RANK = 8
# Elements of a tensor, and offsets: far below the address space, so that sizes in bytes do not overflow.
ELEMENTS = 2**48
# Bytes of one tensor whose elements overlap (expanded with stride 0), so that it is larger than its storage.
EXPANDED = 16 * 2**20
# All tensors together may be this many times as large as the file, since views of one storage may be many.
VIEWS = 64

# Zip: entries, bytes of pickles and code, and the compression ratio (zeros reach 1000, weights and code 1 to 20).
ENTRIES = 100_000
PICKLE = 48 * 2**20
CODE_FILE = 8 * 2**20
CODE = 48 * 2**20
RATIO = 100
RATIO_SLACK = 2**20
# Extra files that authors store with a TorchScript module.
EXTRA_FILES = 64
EXTRA_FILE = 2**20

# Tar: members, bytes of the configuration, extended headers.
MEMBERS = 10_000
NEMO_CONFIG = 4 * 2**20
TAR_HEADER = 64 * 2**10
# The compression ratio of a gzipped tar file: weights reach 1.2, zeros more.
GZIP_RATIO = 8
GZIP_SLACK = 32 * 2**20

# Safetensors: bytes of the header; 1000 tensors take 100 KB.
SAFETENSORS_HEADER = 8 * 2**20
# npz: bytes of the header of an array, which is a short line of text.
NPY_HEADER = 4096

# Upper bounds of memory in bytes: of an empty list, dict or tuple; of an item of a dict, including unused slots; of a
# record, a tensor or an array.
CONTAINER, ITEM, RECORD = 96, 120, 200


class Budget:
    """The remaining budget of a file. It is shared by the zip file, all pickles in it, and `walk`.

    **Arguments:** `size`: bytes of the file. Large files get more time, because they can contain more tensors.
    """

    def __init__(self, size: int):
        self.work = self._all_work = min(WORK + size + size // 8, MOST_WORK)
        """Remaining time, in opcodes of a pickle; one takes about 0.2 microseconds."""
        self.steps = STEPS
        """Remaining opcodes of all pickles."""
        self.memory = MEMORY
        """Remaining memory in bytes."""
        self.tuple_keys = TUPLE_KEYS
        """Remaining keys that are tuples."""
        self.nodes = NODES
        """Remaining values that `walk` may visit."""
        self.names = NAMES_LENGTH
        """Remaining characters of all dotted names."""
        self.tensors = TENSORS
        """Remaining number of tensors."""
        self.modules = MODULES
        """Remaining number of modules in the tree."""

    def charge(self, what: str, *, work: int = 0, memory: int = 0) -> None:
        """Subtract `work` (opcodes) and `memory` (bytes).

        **Raises:** `RefusedError`, which names `what`, if the budget is exhausted.
        """
        self.work -= work
        self.memory -= memory
        if self.work < 0:
            raise RefusedError(
                f"{what} takes more than {self._all_work:,} steps to read; no weight file of this size needs so many."
            )
        if self.memory < 0:
            raise RefusedError(
                f"{what} takes more than {MEMORY >> 20} MiB of memory in addition to the elements of its tensors; no "
                "weight file needs so much."
            )
