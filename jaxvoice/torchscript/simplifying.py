"""Expressions of code text as a person would write them: `conv1d(x, self.conv.weight, stride=2)`, `x + y`, `x[:, 1:3]`.

What comes out is for reading, not for running.
"""

import ast
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from jaxvoice.torchscript.code import Code, literal, original_name
from jaxvoice.torchscript.signatures import REQUIRED, bind, defaults
from jaxvoice.torchscript.told_values import dotted

_BINARY: dict[str, type[ast.operator]] = {
    "add": ast.Add, "sub": ast.Sub, "mul": ast.Mult, "div": ast.Div, "matmul": ast.MatMult, "pow": ast.Pow,
    "remainder": ast.Mod, "floordiv": ast.FloorDiv, "__and__": ast.BitAnd, "__or__": ast.BitOr,
}  # fmt: skip
_COMPARE: dict[str, type[ast.cmpop]] = {
    "eq": ast.Eq, "ne": ast.NotEq, "lt": ast.Lt, "le": ast.LtE, "gt": ast.Gt, "ge": ast.GtE, "__is__": ast.Is,
    "__isnot__": ast.IsNot,
}  # fmt: skip
# Arguments that only say how fast, or where.
_DROPPED = {"benchmark", "deterministic", "cudnn_enabled", "cudnn_enable", "allow_tf32", "pin_memory", "layout"}
_POSITIONAL = {
    *(
        "input",
        "weight",
        "bias",
        "other",
        "tensors",
        "pad",
        "mat1",
        "mat2",
        "batch1",
        "batch2",
        "indices",
        "query",
        "key",
    ),
    *(
        "value",
        "hx",
        "params",
        "batch_sizes",
        "running_mean",
        "running_var",
        "v",
        "g",
        "mask",
        "index",
        "equation",
        "size",
        "shape",
    ),
    *("window", "end", "start", "normalized_shape", "n_fft", "vec2", "exponent", "input1", "input2", "w_ih", "w_hh"),
}
# Operators whose numbers need no names.
_BARE = {
    *("transpose", "permute", "view", "reshape", "unsqueeze", "squeeze", "size", "expand", "repeat", "select", "flip"),
    *("relu", "tanh", "sigmoid", "arange", "zeros", "ones", "slice", "clamp_min", "clamp_max"),
}
_SHORT = {"kernel_size", "stride", "padding", "dilation", "output_padding", "output_size", "scale_factors"}
# Of recurrent operators on packed sequences.
_PACKED = (*("input", "batch_sizes", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional"),)
_NAMED = {"dtype", "device", "memory_format"}
_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
    9: "complex64", 10: "complex128", 11: "bool", 15: "bfloat16",
}  # fmt: skip
_OF_LISTS = {"append", "extend", "insert", "pop", "clear", "remove", "reverse"}
_END = 2**63 - 1


class Simplify(ast.NodeTransformer):
    """Rewrites expressions.

    **Arguments:** `code`: for the signatures of functions; `constants`: plain values of `CONSTANTS.c0` and so on;
    `aliases`: what names stand for; `same_as_forward`: whether a method of the module that an expression names is
    `forward` over again; `taken`: names of variables, which operators must not go by.
    """

    def __init__(
        self, code: Code, constants: Sequence[Any], aliases: Mapping[str, ast.expr],
        same_as_forward: Callable[[ast.expr, str], bool], taken: Container[str] = (),
    ):  # fmt: skip
        self.code, self.constants, self.aliases = code, constants, aliases
        self.same_as_forward, self.taken = same_as_forward, taken
        self.counts: set[str] = set()

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.aliases.get(node.id, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = dotted(node) or ""
        if name.startswith("CONSTANTS.c") and name[11:].isdecimal() and len(name) < 20:
            number = int(name[11:])
            value = self.constants[number] if number < len(self.constants) else None
            return node if value is None else _constant(value)
        if name.startswith("__torch__."):
            return ast.Name(_function_name(name))
        return ast.Attribute(self.visit(node.value), node.attr)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = dotted(node.func) or ""
        if name == "getattr" and len(node.args) == 2 and isinstance(node.args[1], ast.Constant):
            return _member(self.visit(node.args[0]), str(node.args[1].value))
        if name in ("annotate", "unchecked_cast") and len(node.args) == 2:
            return self.visit(node.args[1])
        function = self.aliases.get(name)
        qualified = name if name.startswith("__torch__.") else getattr(function, "qualified", "")
        args = [self.visit(arg) for arg in node.args]
        keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        if qualified:
            return self._function(qualified, args, keywords)
        if name == "int" and len(args) == 1 and self._is_count(args[0]):
            return args[0]
        if name == "torch.device" and len(args) == 1:
            return args[0]
        if name == "ops.prim.NumToTensor" and len(args) == 1:
            return args[0]
        if name.startswith(("torch.", "ops.")):
            call = operator_call(name.rpartition(".")[2], args, keywords)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in self.taken:
                call.func = ast.Name(f"torch.{call.func.id}")
            return call
        if isinstance(node.func, ast.Attribute):
            of = self.visit(node.func.value)
            method = node.func.attr
            if method == "forward" or method.startswith("forward__") or self.same_as_forward(of, method):
                return ast.Call(of, args, keywords)
            return ast.Call(ast.Attribute(of, method), args, keywords)
        return ast.Call(self.visit(node.func), args, keywords)

    def built(self, name: str, call: ast.Call) -> ast.Call:
        """The object that class `name` makes when its `__init__` is called so."""
        called = original_name(name).rpartition(".")[2] if is_grad_mode(name) else ""
        keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in call.keywords]
        return ast.Call(
            ast.Name(f"torch.{called}" if called else _function_name(name)), list(map(self.visit, call.args)), keywords
        )

    def _is_count(self, node: ast.expr) -> bool:
        """Whether `node` is a whole number anyway: sizes, and sums and products of them."""
        match node:
            case ast.Constant(value=int()):
                return True
            case ast.Name(id=name):
                return name in self.counts
            case ast.Call(func=ast.Name(id=name)):
                return name in ("size", "len")
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult(), right=right):
                return self._is_count(left) and self._is_count(right)
        return False

    def note(self, name: str, value: ast.expr) -> None:
        """`name` now stands for `value`; remembered if that is a whole number."""
        if self._is_count(value):
            self.counts.add(name)

    def _function(self, name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> ast.expr:
        """A call of a function of the archive, with the names that its definition gives the arguments."""
        function = self.code.functions.get(name)
        if function is not None and len(args) <= len(function.args.args):
            given = dict(zip((arg.arg for arg in function.args.args), args, strict=False))
            known = {}
            for arg, default in zip(reversed(function.args.args), reversed(function.args.defaults), strict=False):
                known[arg.arg] = _literal(default)
            args, named = _written(given, known, bare=False)
            keywords = named + keywords
        return ast.Call(ast.Name(_function_name(name)), args, keywords)


def is_grad_mode(name: str) -> bool:
    """Whether a class is one of torch's that turn derivatives on or off."""
    return original_name(name).startswith("torch.autograd.grad_mode.")


def _function_name(name: str) -> str:
    short = original_name(name)
    if short.startswith("torch.nn.functional."):
        return short.replace("torch.nn.functional.", "F.")
    return ".".join(short.split(".")[-2:])


def _member(of: ast.expr, name: str) -> ast.expr:
    if name.isdecimal() and len(name) < 10:
        return ast.Subscript(of, ast.Constant(int(name)))
    return ast.Attribute(of, name) if name.isidentifier() else ast.Subscript(of, ast.Constant(name))


def _constant(value: Any) -> ast.expr:
    if isinstance(value, (list, tuple)):
        elements = [_constant(item) for item in value]
        return ast.List(elements) if isinstance(value, list) else ast.Tuple(elements)
    return ast.Constant(value)


def _literal(node: ast.expr) -> Any:
    try:
        return literal(node)
    except ValueError:
        return REQUIRED


def operator_call(name: str, args: list[ast.expr], keywords: list[ast.keyword]) -> ast.expr:
    """A call of one of torch's operators."""
    plain = not keywords
    if plain and len(args) == 2:
        if name in _BINARY:
            return ast.BinOp(args[0], _BINARY[name](), args[1])
        if name in _COMPARE:
            return ast.Compare(args[0], [_COMPARE[name]()], [args[1]])
        if name == "rsub":
            return ast.BinOp(args[1], ast.Sub(), args[0])
        if name == "__getitem__":
            return ast.Subscript(args[0], args[1])
        if name == "__contains__":
            return ast.Compare(args[1], [ast.In()], [args[0]])
    if plain and len(args) == 1 and name in ("neg", "__not__"):
        return ast.UnaryOp(ast.USub() if name == "neg" else ast.Not(), args[0])
    if plain and name in ("slice", "select"):
        indexed = _indexed(name, args)
        if indexed is not None:
            return indexed
    if name == "to" and plain and len(args) > 1:
        return _converted(args)
    bound = bind(name, args, {keyword.arg or "": keyword.value for keyword in keywords})
    if bound is not None and "has_biases" in bound and not isinstance(_literal(bound["has_biases"]), bool):
        bound = dict(zip(_PACKED, args, strict=False))
    if bound is None:
        if name in _OF_LISTS and args:
            return ast.Call(ast.Attribute(args[0], name), args[1:], keywords)
        return ast.Call(ast.Name(name), args, keywords)
    if name == "div" and _literal(bound.get("rounding_mode", ast.Constant(None))) == "floor":
        return ast.BinOp(bound["input"], ast.FloorDiv(), bound["other"])
    known = defaults(name, list(bound))
    if name == "_convolution":
        name, bound, known = _convolution(bound)
    elif name == "_convolution_mode":
        known = {"groups": 1, "stride": [1], "dilation": [1], "bias": None}
        name = f"conv{_rank(bound['stride'])}d"
    positional, named = _written(bound, known, bare=name in _BARE)
    return ast.Call(ast.Name(name), positional, named)


def _converted(args: list[ast.expr]) -> ast.expr:
    """`to(x, float32)`: types by name, without what says how to copy."""
    kept: list[ast.expr] = []
    for arg in args[1:]:
        value = _literal(arg)
        if isinstance(value, int) and not isinstance(value, bool):
            kept.append(ast.Name(_DTYPES.get(value, str(value))))
        elif not isinstance(value, bool) and value is not None and value != "cpu":
            kept.append(arg)
    return ast.Call(ast.Name("to"), [args[0], *kept], []) if kept else args[0]


def _convolution(bound: dict[str, Any]) -> tuple[str, dict[str, Any], Mapping[str, Any]]:
    transposed = _literal(bound["transposed"])
    rank = _rank(bound["stride"])
    if transposed not in (True, False) or rank not in (1, 2, 3):
        return "_convolution", bound, {}
    name = f"conv{'_transpose' if transposed else ''}{rank}d"
    names = ["input", "weight", "bias", "stride", "padding", "dilation", "groups"]
    if transposed:
        names.insert(5, "output_padding")
    return name, {key: bound[key] for key in names}, defaults(name, names)


def _rank(stride: ast.expr) -> int:
    return len(stride.elts) if isinstance(stride, ast.List) else 1


def _written(
    bound: Mapping[str, ast.expr], known: Mapping[str, Any], *, bare: bool
) -> tuple[list[ast.expr], list[ast.keyword]]:
    """Positional arguments, then those by keyword; defaults are left out."""
    positional: list[ast.expr] = []
    named: list[ast.keyword] = []
    for name, node in bound.items():
        value = _literal(node)
        if name in _DROPPED or (value is not REQUIRED and name in known and _equal(value, known[name])):
            bare = False  # what follows needs its name
            continue
        if name == "device" and value == "cpu":
            continue
        if name == "dtype" and isinstance(value, int) and value in _DTYPES:
            node = ast.Name(_DTYPES[value])
        if name in _SHORT and isinstance(value, list) and value and len(set(map(repr, value))) == 1:
            node = ast.Constant(value[0])
        first = not positional and not named and len(bound) > 0 and next(iter(bound)) == name
        if (
            not named
            and name not in _NAMED
            and (bare or first or (name in _POSITIONAL and list(bound).index(name) == len(positional)))
        ):
            positional.append(node)
        else:
            named.append(ast.keyword(name, node))
    return positional, named


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _indexed(name: str, args: list[ast.expr]) -> ast.expr | None:
    """`x[:, 1:3]` for a slice along an axis that the text spells."""
    values = [_literal(arg) for arg in args[1:]]
    dim = values[0] if values else 0
    if not isinstance(dim, int) or not -1 <= dim <= 5:
        return None
    of = args[0]
    if name == "select":
        if len(args) != 3:
            return None
        return _subscript(of, dim, args[2])
    start, end, step = ([*args[2:], None, None, None])[:3]
    begin = None if start is None or _literal(start) in (None, 0) else start
    stop = None if end is None or _literal(end) in (None, _END) else end
    stride = None if step is None or _literal(step) == 1 else step
    if begin is None and stop is None and stride is None:
        return of
    return _subscript(of, dim, ast.Slice(begin, stop, stride))


def _subscript(of: ast.expr, dim: int, index: ast.expr) -> ast.expr:
    if dim == 0:
        return ast.Subscript(of, index)
    before: list[ast.expr] = [ast.Constant(...)] if dim < 0 else [ast.Slice() for _ in range(dim)]
    inner = of.slice if isinstance(of, ast.Subscript) else None
    if isinstance(inner, ast.Tuple) and dim > 0 and all(isinstance(one, ast.Slice) for one in inner.elts):
        # x[:, a:b] and then another axis of it
        merged = [*inner.elts, *before[len(inner.elts) :]]
        if len(inner.elts) <= dim:
            return ast.Subscript(of.value, ast.Tuple([*merged, index]))  # pyright: ignore[reportAttributeAccessIssue]
    return ast.Subscript(of, ast.Tuple([*before, index]))
