"""Fuzzing of the readers of weight files.

Reading may raise only `CheckpointError`, and takes at most two seconds and a few times the memory of the file. The
script requires `pip install atheris` (Linux, and a Python version with wheels of atheris). Run it for an hour; the
corpus in `fuzz_corpus` grows:

    python -m tests.fuzz.fuzz_weights fuzz_corpus -max_total_time=3600

On the first run, small sound files are written to the folder. The last lines of the output state the number of inputs
and the maximum memory. A failure stops the run; its input is saved as `crash-...`, `timeout-...` or `oom-...`. Read it:

    python -m tests.fuzz.fuzz_weights crash-...

The first byte of an input selects the file that contains the rest (`PLACES`). Most inputs are a pickle, a header or
code in an otherwise sound file, so that mutations pass the checks of the container.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

try:
    import atheris
except ImportError:  # not needed for checking single inputs
    atheris = None
with atheris.instrument_imports(include=["jaxvoice.weights.formats"]) if atheris else nullcontext():
    from jaxvoice.errors import CheckpointError
    from jaxvoice.weights.formats import TorchScriptArchive, open_archive
from tests.weights.formats.forge import (
    CODE,
    FLOATS,
    SOUND_HEADER,
    SOUND_NPY,
    gzipped,
    name,
    nemo,
    number,
    safetensors,
    script,
    sound,
    storage,
    table,
    tensor,
    text,
    torch_legacy,
    whole,
    zipped,
)

SECONDS = 5.0
"""Processor time that one input may take at most."""
INERT = r"user\..*"


def _zip_of(pickle: bytes) -> bytes:
    return zipped({"a/data.pkl": pickle, "a/data/0": FLOATS, "a/data/1": FLOATS})


def _script_of(pickle: bytes, constants: bytes = whole(b")"), code: bytes = CODE) -> bytes:
    entries = {"a/data.pkl": pickle, "a/data/0": FLOATS, "a/data/1": FLOATS, "a/constants/0": FLOATS}
    return zipped({**entries, "a/constants.pkl": constants, "a/code/__torch__.py": code})


_SCRIPT = whole(
    name("__torch__.Net") + b")\x81" + table({"weight": tensor(), "mean": tensor(block=storage("1"))}) + b"b"
)
_LEGACY = torch_legacy()
_LEGACY_VALUE = whole(table({"weight": tensor(block=storage("0", 6, "torch.FloatStorage", b"N"))}))

PLACES: list[Callable[[bytes], bytes]] = [
    lambda rest: rest,
    _zip_of,
    _script_of,
    lambda rest: _script_of(_SCRIPT, constants=rest),
    lambda rest: _script_of(_SCRIPT, code=rest),
    lambda rest: _LEGACY.replace(_LEGACY_VALUE, rest),
    nemo,
    lambda rest: gzipped(rest.ljust(512, b"\0")),
    lambda rest: safetensors(rest),
    lambda rest: zipped({"weight.npy": b"\x93NUMPY\x01\x00" + len(rest).to_bytes(4, "little")[:2] + rest + FLOATS}),
]
"""Functions that create a file from the rest of an input, indexed by its first byte."""


def seeds() -> list[bytes]:
    """The initial corpus: at least one small input for each function of `PLACES` and each format."""
    pickles = [
        whole(table({"weight": tensor()})),
        whole(table({"a": b"](" + tensor(shape=(3,), stride=(2,)) + b"Ne", "b": table({"c": number(-5)})}), 4),
        whole(name("user.Net") + b")\x81" + table({"_parameters": b"}", "_buffers": b"}", "_modules": b"}"}) + b"b"),
        whole(b"\x95" + bytes(8) + b"\x8c\x04user\x8c\x03Run\x93)R\x94(\x8c\x01k\x8f(K\x01\x90u"),
        whole(b"(dS'a'\nI3\nsV\\u00b0\nL-70L\nsF0.5\nNs"),
    ]
    return [
        *(b"\x00" + raw for raw in sound().values()),
        *(b"\x01" + pickle for pickle in pickles),
        b"\x02" + _SCRIPT,
        b"\x03" + whole(b"(" + tensor() + b"K\x03t"),
        b"\x04" + CODE,
        b"\x05" + _LEGACY_VALUE,
        b"\x06" + script(),
        b"\x07" + nemo(),
        b"\x08" + SOUND_HEADER,
        b"\x09" + SOUND_NPY.encode(),
    ]


WORDS = [
    *(name(full) for full in ("torch.FloatStorage", "torch._utils._rebuild_tensor_v2", "collections.OrderedDict")),
    *(name(full) for full in ("os.system", "numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy.ndarray")),
    *(
        name(full)
        for full in ("copy_reg._reconstructor", "__builtin__.set", "user.Run", "torch._utils._rebuild_parameter")
    ),
    *(text(word) for word in ("storage", "0", "weight", "_parameters")),
    *(
        storage(),
        tensor(),
        b"q\x01",
        b"h\x01",
        b"\x94",
        b"\x8f(",
        b"\x90",
        b")\x81",
        b"}b",
        b")R",
        b"tQ",
        b"PK\x01\x02",
    ),
]
"""Byte strings that random mutations are unlikely to produce."""


def check(data: bytes, file: Path) -> str:
    """Write the file of the input `data` to `file` and read it.

    **Returns:** `read`, or the name of the error that refused the file. Other errors are raised.
    """
    if not data:
        return "nothing"
    file.write_bytes(PLACES[data[0] % len(PLACES)](data[1:]))
    start = time.process_time()
    try:
        with open_archive(file, inert=INERT) as archive:
            for tensor_name, info in list(archive.tensors.infos().items())[:20]:
                array = archive.tensors[tensor_name]
                assert array.shape == info.shape and array.dtype == info.dtype and not array.flags.writeable
                if info.nbytes < 2**20:
                    array.tobytes()
            for _ in archive.modules.walk():
                pass
            repr(archive)
            if isinstance(archive, TorchScriptArchive):
                for place in archive.code:
                    str(archive.code[place])
        outcome = "read"
    except CheckpointError as refused:
        outcome = type(refused).__name__
        assert str(refused).isprintable() and len(str(refused)) < 1000
    assert time.process_time() - start < SECONDS, "reading takes too long"
    return outcome


def mutated(data: bytes, rng: random.Random) -> bytes:
    """`data` with some bytes changed, removed or repeated, or one of `WORDS` inserted."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(1, len(out) + 1)
        match rng.randrange(5):
            case 0:
                out[at - 1] = rng.randrange(256)
            case 1:
                del out[at : at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case 3:
                out[at:at] = rng.choice(WORDS)
            case _:
                out[at : at + 1] = rng.randbytes(rng.randrange(1, 5))
    return bytes(out)


def main() -> None:
    """Fuzz with atheris. The arguments are those of libFuzzer."""
    if atheris is None:
        sys.exit("Fuzzing needs atheris: pip install atheris")
    folder = Path(tempfile.mkdtemp(prefix="fuzz_weights_"))
    places = [
        Path(argument) for argument in sys.argv[1:] if not argument.startswith("-") and not Path(argument).is_file()
    ]
    for place in places[:1]:
        place.mkdir(parents=True, exist_ok=True)
        for index, seed in enumerate(seeds()):
            (place / f"seed_{index:02}").write_bytes(seed)
    words = folder / "words.txt"
    words.write_text("".join(f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in word)}"\n' for word in WORDS))
    defaults = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=4096", f"-dict={words}"]
    atheris.Setup([sys.argv[0], *defaults, *sys.argv[1:]], lambda data: check(data, folder / "file.pt"))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
