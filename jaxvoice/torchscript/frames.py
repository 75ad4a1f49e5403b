"""Frames of the call stack, and descriptions and types of values."""

import ast
from dataclasses import dataclass
from typing import Any

from jaxvoice.torchscript.code import original_name
from jaxvoice.torchscript.program import EnumMember, Instance
from jaxvoice.torchscript.tensors import Tensor


@dataclass
class Frame:
    """One call in progress."""

    file: str
    function: str
    module: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, in {self.function}" + (
            f", called for the module {self.module!r}" if self.module else ""
        )


def describe_value(value: Any, depth: int = 0) -> str:
    """A short description of a value for error messages."""
    if isinstance(value, Instance):
        return f"<{value.code.original_name}>"
    if isinstance(value, EnumMember):
        return f"{original_name(value.enum)}.{value.name}"
    if isinstance(value, (list, tuple, dict)):
        if len(value) > 4 or depth == 2:
            return f"<{type(value).__name__} of {len(value)}>"
        left, right = ("[", "]") if isinstance(value, list) else ("{", "}") if isinstance(value, dict) else ("(", ")")
        parts = [describe_value(part, depth + 1) for part in value]
        if isinstance(value, dict):
            parts = [
                f"{key}: {describe_value(part, depth + 1)}" for key, part in zip(parts, value.values(), strict=True)
            ]
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        return (left + ", ".join(parts) + comma + right)[:60]
    return repr(value[:60] if isinstance(value, str) else value)[:60]


def is_instance(value: Any, kinds: ast.expr) -> bool:
    """Whether `value` is an instance of the types in the expression `kinds`."""
    if isinstance(kinds, (ast.Tuple, ast.List)):
        return any(is_instance(value, kind) for kind in kinds.elts)
    name = kinds.value if isinstance(kinds, ast.Subscript) else kinds
    text = ast.unparse(name)
    simple: dict[str, Any] = {
        "Tensor": Tensor, "int": int, "float": float, "bool": bool, "str": str, "complex": complex,
        "List": list, "list": list, "Dict": dict, "dict": dict, "Tuple": tuple, "tuple": tuple, "NoneType": type(None),
    }  # fmt: skip
    if text in ("Optional", "Union") and isinstance(kinds, ast.Subscript):
        inner = kinds.slice.elts if isinstance(kinds.slice, ast.Tuple) else [kinds.slice]
        return (text == "Optional" and value is None) or any(is_instance(value, kind) for kind in inner)
    if text in ("List", "list") and isinstance(kinds, ast.Subscript) and isinstance(value, list):
        return all(is_instance(item, kinds.slice) for item in value)
    if text in simple:
        return isinstance(value, simple[text]) and not (text == "int" and isinstance(value, bool))
    if isinstance(value, EnumMember):
        return value.enum == text
    return isinstance(value, Instance) and value.code.name == text
