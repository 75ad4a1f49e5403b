"""Construction of sound and broken weight files byte by byte, without torch and `pickle`."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence

# Opcodes of pickle


def name(full: str) -> bytes:
    """GLOBAL."""
    module, _, last = full.rpartition(".")
    return b"c" + module.encode() + b"\n" + last.encode() + b"\n"


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """LONG1."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def many(values: Sequence[bytes]) -> bytes:
    """A tuple."""
    return b"(" + b"".join(values) + b"t"


def numbers(values: Sequence[int]) -> bytes:
    """A tuple of integers."""
    return many([number(value) for value in values])


def call(function: str, *args: bytes) -> bytes:
    """GLOBAL and REDUCE."""
    return name(function) + many(args) + b"R"


def table(items: Mapping[str, bytes]) -> bytes:
    """A dict."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def whole(value: bytes, protocol: int = 2) -> bytes:
    """A complete pickle."""
    return b"\x80" + bytes([protocol]) + value + b"."


def storage(key: str = "0", numel: int = 6, kind: str = "torch.FloatStorage", *more: bytes) -> bytes:
    """A storage by persistent id."""
    return many([text("storage"), name(kind), text(key), text("cpu"), number(numel), *more]) + b"Q"


def tensor(
    shape: Sequence[int] = (2, 3),
    stride: Sequence[int] = (3, 1),
    offset: int = 0,
    block: bytes | None = None,
) -> bytes:
    """A tensor in a storage."""
    block = storage() if block is None else block
    hooks = call("collections.OrderedDict")
    places = (number(offset), numbers(shape), numbers(stride))
    return call("torch._utils._rebuild_tensor_v2", block, *places, b"\x89", hooks)


FLOATS = struct.pack("<6f", *range(6))

# Containers


def zipped(entries: Mapping[str, bytes] | Sequence[tuple[str, bytes]], *, packed: bool = False) -> bytes:
    """A zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for entry, raw in entries.items() if isinstance(entries, Mapping) else entries:
            archive.writestr(zipfile.ZipInfo(entry), raw, archive.compression)
    return out.getvalue()


def torch_zip(value: bytes | None = None, blocks: Mapping[str, bytes] | None = None, **more: bytes) -> bytes:
    """A file of `torch.save` that contains `value`."""
    value = table({"weight": tensor()}) if value is None else value
    blocks = {"0": FLOATS} if blocks is None else blocks
    entries = {"archive/data.pkl": whole(value), **{f"archive/data/{key}": raw for key, raw in blocks.items()}}
    return zipped({**entries, "archive/version": b"3\n", **more})


def torch_legacy(
    value: bytes | None = None, keys: Sequence[str] = ("0",), blocks: Sequence[bytes] = (FLOATS,)
) -> bytes:
    """A legacy file of torch."""
    value = table({"weight": tensor(block=storage("0", 6, "torch.FloatStorage", b"N"))}) if value is None else value
    system = table({"protocol_version": number(1001), "little_endian": b"\x88"})
    listed = b"](" + b"".join(map(text, keys)) + b"e"
    parts = [number(0x1950A86A20F9469CFC6C), number(1001), system, value, listed]
    return b"".join(map(whole, parts)) + b"".join(struct.pack("<q", len(raw) // 4) + raw for raw in blocks)


CODE = b"""class Net(Module):
  __parameters__ = ["weight", ]
  __buffers__ = ["mean", ]
  weight : Tensor
  mean : Tensor
  def forward(self: __torch__.Net, x: Tensor) -> Tensor:
    return torch.mul(x, self.weight)
"""


def script(value: bytes | None = None, constants: bytes = b")", code: bytes = CODE, **more: bytes) -> bytes:
    """A TorchScript file."""
    if value is None:
        state = table({"weight": tensor(), "mean": tensor(block=storage("1")), "training": b"\x89"})
        value = name("__torch__.Net") + b")\x81" + state + b"b"
    entries = {"code/__torch__.py": code, "constants.pkl": whole(constants), "constants/0": FLOATS, **more}
    return torch_zip(value, {"0": FLOATS, "1": FLOATS}, **{f"archive/{key}": raw for key, raw in entries.items()})


def tarred(members: Sequence[tuple[str, bytes]], *, kind: bytes = tarfile.REGTYPE, zip_it: bool = False) -> bytes:
    """A tar file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, raw in members:
            info = tarfile.TarInfo(member)
            info.size, info.type = len(raw) if kind == tarfile.REGTYPE else 0, kind
            archive.addfile(info, io.BytesIO(raw))
    return gzipped(out.getvalue()) if zip_it else out.getvalue()


def gzipped(raw: bytes) -> bytes:
    """The bytes compressed with gzip."""
    packing = zlib.compressobj(9, wbits=31)
    return packing.compress(raw) + packing.flush()


def nemo(weights: bytes | None = None, *, zip_it: bool = False) -> bytes:
    """A NeMo file."""
    weights = torch_zip() if weights is None else weights
    return tarred([("./model_config.yaml", b"sample_rate: 16000\n"), ("./model_weights.ckpt", weights)], zip_it=zip_it)


def safetensors(header: bytes, blocks: bytes = FLOATS) -> bytes:
    """A safetensors file."""
    return struct.pack("<Q", len(header)) + header + blocks


def npy(header: str, blocks: bytes = FLOATS) -> bytes:
    """An array of numpy."""
    raw = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + blocks


def patched(raw: bytes, at: bytes, offset: int, new: bytes) -> bytes:
    """The file with `new` written at `offset` after the first occurrence of `at`."""
    place = raw.index(at) + offset
    return raw[:place] + new + raw[place + len(new) :]


def entry_field(raw: bytes, entry: str, offset: int, new: bytes, *, local: bool = False) -> bytes:
    """The zip file with a changed field in the directory record of `entry`; with `local`, also in its local header."""
    place = raw.rindex(entry.encode())
    raw = raw[: place - 46 + offset] + new + raw[place - 46 + offset + len(new) :]
    if local:
        place = raw.index(entry.encode())
        raw = raw[: place - 30 + offset - 2] + new + raw[place - 30 + offset - 2 + len(new) :]
    return raw


SOUND_HEADER = b'{"weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'
SOUND_NPY = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


def sound() -> dict[str, bytes]:
    """One small file of every format, each with a tensor `weight` of shape (2, 3): 0 to 5."""
    return {
        "zip": torch_zip(),
        "packed zip": zipped({"m/data.pkl": whole(table({"weight": tensor()})), "m/data/0": FLOATS}, packed=True),
        "legacy": torch_legacy(),
        "script": script(),
        "nemo": nemo(),
        "nemo gz": nemo(zip_it=True),
        "nemo legacy": nemo(torch_legacy()),
        "safetensors": safetensors(SOUND_HEADER),
        "npz": zipped({"weight.npy": npy(SOUND_NPY)}),
        "packed npz": zipped({"weight.npy": npy(SOUND_NPY)}, packed=True),
    }
