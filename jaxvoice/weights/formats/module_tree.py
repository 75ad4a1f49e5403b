"""The module tree of dotted names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxvoice.errors import RefusedError
from jaxvoice.weights.archive import ModuleNode
from jaxvoice.weights.formats import limits
from jaxvoice.weights.formats.error_messages import short_text
from jaxvoice.weights.formats.limits import Budget

# Bytes of a module, including its node and the dicts of both.
_MODULE = 500


@dataclass(slots=True)
class _Node:
    class_name: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    children: dict[str, "_Node"] = field(default_factory=dict)

    def module(self) -> ModuleNode:
        return ModuleNode(self.class_name, {key: node.module() for key, node in self.children.items()}, self.attributes)


def module_tree(
    tensors: Iterable[str], budget: Budget, known: Mapping[str, tuple[str, dict[str, Any]]] | None = None
) -> ModuleNode:
    """The tree of the modules that contain tensors of these names.

    **Arguments:** `known`, class and attributes of modules by name.

    **Raises:** `RefusedError` if the tree would be too deep or too large.
    """
    root = _Node()

    def at(parts: list[str]) -> _Node:
        node = root
        budget.charge("its module tree", work=10 + 4 * len(parts))
        for part in parts:
            if part not in node.children:
                node.children[part] = _Node()
                budget.modules -= 1
                budget.charge("its module tree", work=30, memory=_MODULE)
                if budget.modules < 0 or len(parts) > limits.DEPTH:
                    raise RefusedError(f"its module tree is too large or too deep, at {short_text(part)}.")
            node = node.children[part]
        return node

    for name in tensors:
        at(name.split(".")[:-1])
    for name, (class_name, attributes) in (known or {}).items():
        node = at(name.split(".") if name else [])
        node.class_name, node.attributes = class_name, attributes
    return root.module()
