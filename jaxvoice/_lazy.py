"""Lazy imports in packages (PEP 562). Importing jax takes two seconds and 150 MB, and many uses do not need it."""

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def lazy_imports(
    package: str, names: dict[str, Any], modules: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package, which import names on first access; also sets `__all__`.

    `__dir__` lists the lazy names and names with two underscores, without submodules.

    **Arguments:** `package`: its full name; `names`: its `globals()`; `modules`: for each submodule, the names that the
    package imports from it.
    """
    module_of = {name: f"{package}.{module}" for module, imported in modules.items() for name in imported}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(module_of[name]), name)
        names[name] = found
        return found

    def listed() -> list[str]:
        return sorted({*(name for name in names if name.startswith("__")), *module_of})

    names["__all__"] = sorted(module_of)
    return get, listed


def list_public(names: dict[str, Any]) -> Callable[[], list[str]]:
    """The function `__dir__` of a package that imports its names eagerly; also sets `__all__`.

    `__dir__` lists the current public names without modules, and names with two underscores.

    **Arguments:** `names`: the `globals()` of the package.
    """
    public = sorted(
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and value is not list_public
    )
    names["__all__"] = public
    return lambda: sorted({*(name for name in names if name.startswith("__")), *public})
