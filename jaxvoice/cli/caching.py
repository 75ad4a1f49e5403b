"""Programs that were compiled before are found again."""

from jaxvoice.console import print_message
from jaxvoice.errors import ConfigError


def use_compilation_cache() -> None:
    """Keep compiled programs on disk; where that cannot be, say so and go on."""
    from jaxvoice.training.compilation_cache import enable_compilation_cache

    try:
        enable_compilation_cache()
    except ConfigError as failure:
        print_message("warning", f"{failure} Going on without it.")
