"""The parser of code, and its checks before Python's parser reads the text."""

import ast
import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

from jaxvoice.errors import CheckpointError
from jaxvoice.torchscript import parse_code
from jaxvoice.torchscript.code import file_of, original_name


def _code(module, path):
    torch.jit.save(module, path)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
        return parse_code({name.partition("code/")[2]: archive.read(name).decode() for name in names})


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv1d(2, 3, 5, stride=2, padding=1), nn.Conv1d(3, 2, 1, bias=False)])
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        for conv in self.convs:
            x = conv(x)
        return nn.functional.leaky_relu(self.norm(x), 0.1)


def test_scripted_modules_have_fields_and_methods(tmp_path):
    code = _code(torch.jit.script(Both().eval()), tmp_path / "m.pt")
    convs = [found for found in code.classes.values() if found.original_name == "torch.nn.modules.conv.Conv1d"]
    assert [conv.constants["kernel_size"] for conv in convs] == [(5,), (1,)]
    assert convs[0].constants["stride"] == (2,) and convs[0].constants["padding_mode"] == "zeros"
    assert convs[0].parameters == ("weight", "bias") and convs[0].kind == "module"
    assert {"forward", "_conv_forward"} <= convs[0].methods.keys() and "in_channels" in convs[0].fields
    norm = next(found for found in code.classes.values() if found.original_name.endswith("BatchNorm1d"))
    assert norm.buffers == ("running_mean", "running_var", "num_batches_tracked")
    container = next(found for found in code.classes.values() if found.original_name.endswith("ModuleList"))
    assert {"0", "1"} <= container.fields.keys()
    assert "__torch__.torch.nn.functional.leaky_relu" in code.functions


def test_modules_of_a_trace_have_separate_classes(tmp_path):
    code = _code(torch.jit.trace(Both().eval(), torch.randn(1, 2, 9), check_trace=False), tmp_path / "m.pt")
    convs = [name for name in code.classes if original_name(name) == "torch.nn.modules.conv.Conv1d"]
    assert len(convs) == 2 and any("___torch_mangle_" in name for name in convs)
    assert all(file_of(name).endswith(".py") for name in convs) and not code.functions


def test_original_names_have_no_mangling():
    assert original_name("__torch__.a.b.___torch_mangle_12.C") == "a.b.C"
    assert file_of("__torch__.a.___torch_mangle_1.f") == "__torch__/a/___torch_mangle_1.py"


def test_classes_have_kinds_and_constants():
    text = """op_version_set = 1
class A(Module):
  __parameters__ = ["w", ]
  w : Tensor
  k : Final[List[float]] = [1., -2.5, 1e-3]
  d : Final[Dict[str, int]] = {"a": 1}
  f : Final[float] = float("inf")
  __annotations__["0"] = __torch__.B
  def forward(self: __torch__.A, x: Tensor) -> Tensor:
    return torch.add(x, -inf)
class B(NamedTuple):
  x : Tensor
class C(Enum):
  RED = 1
class D(ModuleInterface):
  def f(self, x: Tensor) -> Tensor:
    pass
class E:
  n : int
"""
    code = parse_code({"__torch__.py": text})
    assert [found.kind for found in code.classes.values()] == ["module", "namedtuple", "enum", "interface", "class"]
    assert code.classes["__torch__.A"].constants == {"k": [1.0, -2.5, 1e-3], "d": {"a": 1}, "f": float("inf")}
    assert code.classes["__torch__.C"].constants == {"RED": 1} and "0" in code.classes["__torch__.A"].fields


def test_with_statements_of_names_are_parsed():
    code = parse_code({"__torch__.py": "def f(x):\n  with x:\n    with x as y:\n      z = y\n  return z\n"})
    assert isinstance(code.functions["__torch__.f"].body[0], ast.With)


HOSTILE = {
    "dots": "class A(Module):\n  x : " + ".".join("a" * 100_000),
    "brackets": "def f(x):\n  return " + "(" * 100_000,
    "minus": "def f(x):\n  return " + "-" * 100_000 + "1",
    "not": "def f(x):\n  return " + "not " * 100_000 + "x",
    "calls": "def f(x):\n  return x" + "()" * 100_000,
    "items": "def f(x):\n  return x" + "[0]" * 100_000,
    "sums": "def f(x):\n  return " + "+".join("x" * 100_000),
    "comparisons": "def f(x):\n  return " + "<".join("x" * 100_000),
    "conditions": "def f(x):\n  return " + "x if x else " * 50_000 + "x",
    "tables": "def f(x):\n  return " + "{1:" * 10_000,
    "words": "def f(x):\n  return [" + "x," * 2_000_000 + "]",
    "indents": "def f(x):\n" + "".join(" " * i + "if x:\n" for i in range(1, 200)) + " " * 200 + "pass",
    "digits": "def f(x):\n  return " + "9" * 100_000,
    "import": "import os",
    "from": "from os import system",
    "call": "os.system('echo')",
    "assignment": "x = __import__('os')",
    "lambda": "def f(x):\n  return (lambda: x)()",
    "generator": "def f(x):\n  yield x",
    "await": "async def f(x):\n  await x",
    "with": "def f(x):\n  with open(x):\n    pass",
    "with in a block": "def f(x):\n  if x:\n    with x.y as z:\n      pass",
    "with into more": "def f(x):\n  with x as y.z:\n    pass",
    "try": "def f(x):\n  try:\n    pass\n  except: pass",
    "global": "def f(x):\n  global y",
    "f-string": "def f(x):\n  return f'{x}'",
    "bytes": "def f(x):\n  return b'x'",
    "three quotes": 'def f(x):\n  return """ " """ + ' + "(" * 100 + '1 " ',
    "decorator": "@os.system\ndef f(x):\n  pass",
    "base": "class A(os.system('echo')):\n  pass",
    "metaclass": "class A(Module, metaclass=B):\n  pass",
    "nested class": "class A(Module):\n  class B:\n    pass",
    "null": "def f(x):\n  return 1\0",
    "carriage return": "# comment\rimport os",
    "other letters": "def \uff46(x):\n  return x",
    "unfinished": "def f(x):\n  return (",
    "backticks": "def f(x):\n  return `x`",
    "semicolon": "def f(x):\n  return x; import os",
    "twice": "def f(x):\n  return x\ndef f(x):\n  return x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_malicious_text_raises_an_error(name):
    with pytest.raises(CheckpointError, match=r"__torch__/m\.py"):
        parse_code({"__torch__/m.py": HOSTILE[name]})


def test_too_many_files_and_characters_raise_an_error():
    with pytest.raises(CheckpointError, match="files"):
        parse_code({f"{i}.py": "" for i in range(20_001)})
    with pytest.raises(CheckpointError, match="characters"):
        parse_code({"a.py": "#" + " " * 2**25})


def test_parsing_needs_neither_jax_nor_torch():
    script = "import sys, jaxvoice.torchscript as t; t.parse_code({})\nprint({'jax', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
