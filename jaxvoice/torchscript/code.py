"""Syntax trees of the code in a TorchScript archive. The code is never executed or imported."""

import ast
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxvoice.errors import CheckpointError

ClassKind = Literal["module", "class", "namedtuple", "enum", "interface"]

MAX_FILES = 20_000
MAX_CHARACTERS = 32 * 2**20
MAX_TOKENS = 600_000
MAX_NESTING = 100

_KINDS: dict[str, ClassKind] = {
    "Module": "module",
    "NamedTuple": "namedtuple",
    "Enum": "enum",
    "ModuleInterface": "interface",
    "Interface": "interface",
}
_MANGLE = re.compile(r"___torch_mangle_\d+")
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\f]+|\#[^\r\n]*|\\\r?\n)
    |(?P<line>\r?\n)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?[jJ]?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<arrow>->)
    |(?P<open>[(\[{])
    |(?P<close>[)\]}])
    |(?P<mark>[,:=.])
    |(?P<operator>[-+*/%@<>!&|^~])
    """,
    re.VERBOSE | re.ASCII,
)
_OPERATOR_WORDS = frozenset({"not", "and", "or", "is", "if", "else"})
_SEPARATORS = frozenset({",", "=", ":"})
_FORBIDDEN_WORDS = frozenset(
    [
        "lambda",
        "await",
        "async",
        "yield",
        "import",
        "from",
        "global",
        "nonlocal",
        "del",
        "try",
        "except",
        "finally",
        "elif",
    ]
)


@dataclass(frozen=True)
class ClassCode:
    """The definition of one class in the archive's code."""

    name: str
    """Its qualified name, as in records: `__torch__.torch.nn.modules.conv.___torch_mangle_3.Conv1d`."""
    kind: ClassKind
    """`class` is a scripted class that is not a module."""
    fields: dict[str, ast.expr] = field(default_factory=dict)
    """The declared type of every attribute, including submodules and constants, in the order of declaration."""
    constants: dict[str, Any] = field(default_factory=dict)
    """Values of `Final` attributes, and of the members of an enum."""
    parameters: tuple[str, ...] = ()
    """Names of the attributes that are parameters."""
    buffers: tuple[str, ...] = ()
    """Names of the attributes that are buffers, including those that are not part of state dicts."""
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)
    """Methods by name. In a trace, the second call of a module is the method `forward1`. A module that is never called
    has no methods."""

    @property
    def original_name(self) -> str:
        """The name of the original Python class: `torch.nn.modules.conv.Conv1d`."""
        return original_name(self.name)

    @property
    def file(self) -> str:
        """The file of the archive that contains the class."""
        return file_of(self.name)


@dataclass(frozen=True)
class Code:
    """All classes and free functions of an archive, by qualified name (`__torch__.pkg.mod.Cls`)."""

    classes: Mapping[str, ClassCode]
    functions: Mapping[str, ast.FunctionDef]


def original_name(name: str) -> str:
    """Remove `__torch__` and the parts that distinguish copies of a class from a qualified name."""
    parts = [part for part in name.split(".") if not _MANGLE.fullmatch(part)]
    return ".".join(parts[1:] if parts[:1] == ["__torch__"] else parts)


def file_of(name: str) -> str:
    """The file that contains the class or function with this qualified name: `__torch__/pkg/mod.py`."""
    return name.rpartition(".")[0].replace(".", "/") + ".py"


def assigned_attributes(functions: Iterable[ast.FunctionDef]) -> set[str]:
    """Names of the attributes that `functions` assign on any object."""
    return {
        node.attr
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }


def parse_code(files: Mapping[str, str]) -> Code:
    """Parse the code of an archive: `files` maps names such as `__torch__/pkg/mod.py` to their text.

    Sizes and nesting are checked before Python's parser reads the text, and only definitions are accepted.

    **Raises:** `CheckpointError` for text that is too large, too deeply nested, not Python, or not in the form that
    TorchScript writes. The message states the file and, if known, the line.
    """
    if len(files) > MAX_FILES:
        raise CheckpointError(f"the archive has {len(files)} code files; it should have at most {MAX_FILES}.")
    budget = _Budget()
    classes: dict[str, ClassCode] = {}
    functions: dict[str, ast.FunctionDef] = {}
    for file in files:
        text = files[file]
        budget.check(file, text)
        module = file.removesuffix(".py").replace("/", ".")
        for node in _parse(file, text):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                if not _is_ignored(node):
                    raise _rejected(file, node.lineno, f"a {type(node).__name__} statement is not a definition")
                continue
            name = f"{module}.{node.name}"
            if name in classes or name in functions:
                raise _rejected(file, node.lineno, f"{name} is defined twice")
            if isinstance(node, ast.ClassDef):
                classes[name] = _class_code(file, name, node)
            else:
                functions[name] = _check_function(file, node)
    return Code(classes, functions)


def literal(node: ast.expr) -> Any:
    """The value of a literal: numbers, text, tuples, lists and dictionaries of these, and devices as their names.

    **Raises:** `ValueError` if `node` is not a literal.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() | complex() as value)):
            return -value
        case ast.Tuple(elts=elements):
            return tuple(literal(element) for element in elements)
        case ast.List(elts=elements):
            return [literal(element) for element in elements]
        case ast.Dict(keys=keys, values=values):
            return {_key(literal(k)): literal(v) for k, v in zip(keys, values, strict=True) if k is not None}
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)]):
            return float(text)
        case ast.Call(func=ast.Name(id="annotate"), args=[_, value]):
            return literal(value)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="device"), args=[ast.Constant(value=device)]):
            return device
    raise ValueError(f"{ast.unparse(node)} is not a plain value")


def dotted_name(node: ast.expr) -> str | None:
    """The dotted name `a.b.c` of an expression; `None` for other expressions."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def _key(key: Any) -> Any:
    if not isinstance(key, (str, int, float, bool, tuple)):
        raise ValueError(f"{key!r} cannot be a key")
    return key


def _rejected(file: str, line: int | None, why: str) -> CheckpointError:
    place = file if line is None else f"{file}, line {line}"
    return CheckpointError(f"the code of the archive is not valid TorchScript: {place}: {why}.")


class _Budget:
    """Limits on the total size of all files and on the nesting of each statement."""

    def __init__(self) -> None:
        self.characters, self.tokens = MAX_CHARACTERS, MAX_TOKENS

    def check(self, file: str, text: str) -> None:
        """Raise `CheckpointError` if `text` is too large or too deeply nested for Python's parser."""
        self.characters -= len(text)
        if self.characters < 0:
            raise _rejected(file, None, f"the files contain more than {MAX_CHARACTERS} characters")
        # Upper bound of the depth of the syntax tree at this token: for every open bracket, the chain before it.
        line, at, links, nesting, previous = 1, 0, [0], 0, "line"
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise _rejected(file, line, f"unexpected character {text[at]!r}")
            kind, word, at = token.lastgroup or "", token.group(), token.end()
            line += word.count("\n")
            if kind == "space":
                continue
            self.tokens -= 1
            if self.tokens < 0:
                raise _rejected(file, line, f"the files contain more than {MAX_TOKENS} tokens")
            if kind == "name" and word in _FORBIDDEN_WORDS:
                raise _rejected(file, line, f"{word!r} is not part of TorchScript")
            if kind == "string" and previous == "name" and text[token.start() - 1].isalnum():
                raise _rejected(file, line, "strings with a prefix are not part of TorchScript")
            if kind == "string" and previous == "string":
                # Python would parse three quotes in a row differently from this scan.
                raise _rejected(file, line, "strings in a row are not part of TorchScript")
            if word in _SEPARATORS or (kind == "line" and len(links) == 1):
                nesting, links[-1] = nesting - links[-1], 0
            elif kind == "open":
                links.append(0)
                # A bracket after an operand is a call or an index, which extends the chain by one.
                links[-2] += previous in ("name", "close", "string")
                nesting += 1 + (previous in ("name", "close", "string"))
            elif kind == "close" and len(links) > 1:
                nesting -= 1 + links.pop()
            elif kind == "operator" or word == "." or word in _OPERATOR_WORDS:
                links[-1] += 1
                nesting += 1
            if nesting > MAX_NESTING:
                raise _rejected(file, line, f"an expression is nested more than {MAX_NESTING} deep")
            previous = kind if kind != "line" or len(links) == 1 else previous


def _parse(file: str, text: str) -> list[ast.stmt]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as failure:
        line = getattr(failure, "lineno", None)
        why = getattr(failure, "msg", None) or str(failure) or type(failure).__name__
        raise _rejected(file, line, f"it does not parse ({why})") from failure


def _is_ignored(node: ast.stmt) -> bool:
    """Whether a top-level statement can be ignored: old archives begin with `op_version_set = 1`."""
    match node:
        case ast.Assign(targets=[ast.Name(id="op_version_set")], value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Constant()) | ast.Pass():
            return True
    return False


def _check_function(file: str, node: ast.FunctionDef) -> ast.FunctionDef:
    if node.decorator_list and not all(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list):
        raise _rejected(file, node.lineno, f"{node.name} has a decorator")
    for part in ast.walk(node):
        if isinstance(part, ast.With) and not all(_is_context(item) for item in part.items):
            raise _rejected(
                file,
                part.lineno,
                f"'{ast.unparse(part).partition(chr(10))[0][:80]}' does not use a name as its context",
            )
    return node


def _is_context(item: ast.withitem) -> bool:
    """Whether the context of a `with` is a name, as in code that TorchScript writes."""
    return isinstance(item.context_expr, ast.Name) and isinstance(item.optional_vars, ast.Name | None)


def _class_code(file: str, name: str, node: ast.ClassDef) -> ClassCode:
    base = node.bases[0].id if len(node.bases) == 1 and isinstance(node.bases[0], ast.Name) else ""
    if (node.bases and base not in _KINDS) or node.keywords or node.decorator_list:
        raise _rejected(file, node.lineno, f"class {node.name} has an unknown base")
    parsed = ClassCode(name, _KINDS.get(base, "class"))
    names: dict[str, tuple[str, ...]] = {}
    for statement in node.body:
        match statement:
            case ast.FunctionDef():
                parsed.methods[statement.name] = _check_function(file, statement)
            case ast.AnnAssign(target=ast.Name(id=key), annotation=annotation, value=value):
                parsed.fields[key] = annotation
                if value is not None:
                    _add_literal(parsed.constants, key, value)
            case ast.Assign(
                targets=[ast.Subscript(value=ast.Name(id="__annotations__"), slice=ast.Constant(value=str() as key))],
                value=annotation,
            ):
                parsed.fields[key] = annotation
            case ast.Assign(targets=[ast.Name(id=key)], value=ast.List(elts=elements)) if key.startswith("__"):
                names[key] = tuple(_text(file, element) for element in elements)
            case ast.Assign(targets=[ast.Name(id=key)], value=value):
                _add_literal(parsed.constants, key, value)
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                continue
            case _:
                raise _rejected(file, statement.lineno, f"class {node.name} contains a {type(statement).__name__}")
    return ClassCode(
        name, parsed.kind, parsed.fields, parsed.constants,
        names.get("__parameters__", ()), names.get("__buffers__", ()), parsed.methods,
    )  # fmt: skip


def _add_literal(constants: dict[str, Any], key: str, value: ast.expr) -> None:
    try:
        constants[key] = literal(value)
    except ValueError:
        return


def _text(file: str, node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise _rejected(file, node.lineno, "a list of names contains another value")
