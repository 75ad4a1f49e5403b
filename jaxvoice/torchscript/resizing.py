"""The many operators that torch's `interpolate` chooses from, told as the one call that they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxvoice.torchscript.symbolic_values import Call, Stored, is_plain

_NAMES = ("input", "size", "scale_factor", "mode", "align_corners")
_AREA = "adaptive_avg_pool"
_ARGUMENTS = {"output_size": "size", "scale_factors": "scale_factor", "align_corners": "align_corners"}


def interpolates(given: Mapping[str, Any], calls: Sequence[Call]) -> bool:
    """Whether a function that has the name of `interpolate` and makes these calls does what its arguments say.

    **Arguments:** `given`: its arguments by name; `calls`: what its text calls in any of its branches.
    """
    if not set(_NAMES) <= set(given):
        return False
    plain = {name: value.value if isinstance(value, Stored) else value for name, value in given.items()}
    mode = plain["mode"]
    stem = {"area": _AREA, "nearest-exact": "_upsample_nearest_exact"}.get(repr(mode)[1:-1], f"upsample_{mode}")
    resizes = [call for call in calls if "upsample" in call.name or call.name.startswith(_AREA)]
    by_name = not isinstance(mode, str) or all(call.name.lstrip("_").startswith(stem.lstrip("_")) for call in resizes)
    return bool(resizes) and by_name and all(_agrees(call, plain) for call in resizes)


def _agrees(call: Call, plain: Mapping[str, Any]) -> bool:
    """Whether what the text spells in a call is what the function was given."""
    for inner, outer in _ARGUMENTS.items():
        found, asked = call.arguments.get(inner), plain[outer]
        found = found.value if isinstance(found, Stored) else found
        if found is None or not is_plain(found) or (inner == "align_corners" and found is False and asked is None):
            continue
        numbers = found if isinstance(found, (list, tuple)) else [found]
        wanted = list(asked) if isinstance(asked, (list, tuple)) else [asked] * len(numbers)
        if list(numbers) != wanted:
            return False
    return True
