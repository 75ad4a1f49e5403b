"""Packages whose names are imported when first asked for (PEP 562): jax takes two seconds and 150 MB to import."""

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def lazily(
    package: str, names: dict[str, Any], homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of `package`, whose `globals()` are `names`; sets `__all__` there.

    `homes` maps each module, named from the package on, to the names that the package takes from it. `__dir__` lists
    these and names with two underscores. It does not list submodules, nor what the package's file imports.
    """
    home_of = {name: f"{package}.{module}" for module, shown in homes.items() for name in shown}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(home_of[name]), name)
        names[name] = found
        return found

    def listed() -> list[str]:
        return sorted({*(name for name in names if name.startswith("__")), *home_of})

    names["__all__"] = sorted(home_of)
    return get, listed


def list_public(names: dict[str, Any]) -> Callable[[], list[str]]:
    """`__dir__` of a package that imports its names at once, and whose `globals()` are `names`; sets `__all__` there.

    It lists the names that the package has when this is called, without modules, and names with two underscores.
    """
    public = sorted(
        name
        for name, value in names.items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and value is not list_public
    )
    names["__all__"] = public
    return lambda: sorted({*(name for name in names if name.startswith("__")), *public})
