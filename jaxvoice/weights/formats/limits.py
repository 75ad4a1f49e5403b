"""Bounds on what a weight file may ask for. Real files stay far below; whatever passes one is refused.

Together they keep the refusal of any file below 200 MB of memory, which includes the part of the file that was looked
at, and of a file of up to 2 MB under a second. Each further megabyte may take a quarter of a second more, since it can
hold more tensors; four and a half are the most. `Budget` counts.
"""

from jaxvoice.errors import RefusedError

# Time, in opcodes of a pickle, which take about a fifth of a microsecond; what else takes time counts as several. A
# tensor takes about 300: 30 opcodes, its place, its storage, its entry in the zip file, its names.
WORK = 1_500_000
# A little more than one more for each byte of the file, since no tensor takes less than 300 bytes of one.
MOST_WORK = 23_000_000
# Opcodes of all pickles of a file.
STEPS = 2_200_000
# Bytes of memory beside the elements: of everything that is kept, of pickles, of text.
MEMORY = 184 * 2**20
# Values waiting to be put somewhere: writers flush every 1000.
STACK = 100_000
# Bytes of one name of a class or function, or of a number written as text.
LINE = 1024
# Bytes of one integer: the largest in real files are 128-bit seeds; decimal conversion is quadratic.
INTEGER = 255
# Keys that are tuples: their hashes can be made to collide on purpose, which makes tables quadratic.
TUPLE_KEYS = 1500
# Integer keys: beyond this size, python's hashes of them repeat.
KEY = 2**60
# Containers in containers, and parts of a dotted name: real modules nest 20 deep. The walk takes four frames for each.
DEPTH = 100

# Walking over what was read: a list that holds another ten times, and so on, has more places than the file has bytes.
NODES = 200_000
# Characters of one dotted name, and of all of them together.
NAME = 2000
NAMES = 6 * 2**20
# Modules that the names imply together.
TREE = 100_000

# Tensors: optimisers keep two per parameter, and large models have thousands.
TENSORS = 60_000
# Axes: torch uses five; eight leaves room.
RANK = 8
# Numbers of elements and positions: below the address space by far, so that products are harmless.
ELEMENTS = 2**48
# Bytes of one tensor whose elements lie on each other (expanded with stride 0) and so take more than the file has.
EXPANDED = 16 * 2**20
# All tensors together may be this many times as large as the file, since views of one storage may be many.
VIEWS = 64

# Zip: entries, bytes of pickles and code, and what a byte may unpack to (zeros reach 1000, weights and code 1 to 20).
ENTRIES = 100_000
PICKLE = 48 * 2**20
CODE_FILE = 8 * 2**20
CODE = 48 * 2**20
RATIO = 100
RATIO_SLACK = 2**20
# Texts stored beside a TorchScript module by its author.
EXTRA_FILES = 64
EXTRA_FILE = 2**20

# Tar: members, bytes of the configuration, extended headers.
MEMBERS = 10_000
CONFIG = 4 * 2**20
TAR_HEADER = 64 * 2**10
# What a byte of a gzipped tar may unpack to so far: weights reach 1.2, a stretch of zeros more.
GZIP_RATIO = 8
GZIP_SLACK = 32 * 2**20

# Safetensors: bytes of the table of contents; 1000 tensors take 100 KB.
SAFETENSORS_HEADER = 8 * 2**20
# npz: bytes of an array's header; it is a short line of text.
NPY_HEADER = 4096

# Bytes of memory at most: of an empty list, dict or tuple; of an item of a dict with its part of the table, which is
# half empty; of a record, a tensor or an array with its parts.
CONTAINER, ITEM, RECORD = 96, 120, 200


class Budget:
    """What is left for a file. One object is shared by the zip file, every pickle in it, and the walk over them.

    - `size`: bytes of the file; large files may take longer, since they can hold more tensors.
    """

    def __init__(self, size: int):
        self.work = self._all_work = min(WORK + size + size // 8, MOST_WORK)
        """What is left of the time, in opcodes of a pickle; about a fifth of a microsecond each."""
        self.steps = STEPS
        """How many more opcodes all pickles together may have."""
        self.memory = MEMORY
        """What is left of the memory, in bytes."""
        self.tuple_keys = TUPLE_KEYS
        """How many more keys may be tuples."""
        self.nodes = NODES
        """How many more values may be walked over."""
        self.names = NAMES
        """How many more characters all dotted names together may have."""
        self.tensors = TENSORS
        """How many more tensors there may be."""
        self.modules = TREE
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
                f"{what} takes more than {MEMORY >> 20} MiB of memory beside the elements of its tensors; no "
                "weight file needs so much."
            )
