"""The tree of modules that dotted names imply."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxvoice.errors import RefusedError
from jaxvoice.weights.archive import Module
from jaxvoice.weights.reading import limits
from jaxvoice.weights.reading.problems import shown


@dataclass
class _Node:
    class_name: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    children: dict[str, "_Node"] = field(default_factory=dict)

    def module(self) -> Module:
        return Module(self.class_name, {key: node.module() for key, node in self.children.items()}, self.attributes)


def module_tree(tensors: Iterable[str], known: Mapping[str, tuple[str, dict[str, Any]]] | None = None) -> Module:
    """The tree above tensors of these names; `known` gives class and attributes of modules by name.

    Raises `RefusedError` when it would be too deep or too large.
    """
    root, count = _Node(), 0

    def at(parts: list[str]) -> _Node:
        nonlocal count
        node = root
        for part in parts:
            if part not in node.children:
                node.children[part] = _Node()
                count += 1
                if count > limits.TREE or len(parts) > limits.DEPTH:
                    raise RefusedError(f"its names make a tree that is too large or too deep, at {shown(part)}.")
            node = node.children[part]
        return node

    for name in tensors:
        at(name.split(".")[:-1])
    for name, (class_name, attributes) in (known or {}).items():
        node = at(name.split(".") if name else [])
        node.class_name, node.attributes = class_name, attributes
    return root.module()
