"""Texts on the command line that begin with a dash, which would be parsed as options."""

import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from jaxvoice.console import flag_name

_OPTION = re.compile(r"--[a-zA-Z][a-zA-Z0-9-]*")


def mark_texts(arguments: Sequence[str], command: type[Any]) -> list[str]:
    """The arguments of `command`, with a space before each text that would be parsed as options, such as `-ish`.

    An argument that begins with a dash is such a text if no option has its form, or if OUTPUT, a `.wav` file or `-`,
    follows and it is neither an option nor a single word after two dashes, which is probably a misspelled option.
    """
    options = {flag_name(option.name) for option in fields(command)}
    short = ("-f", "-h") if "--file" in options else ("-h",)
    flags = {"--phonemes", "--debug"} & options | {"--help", "-h"}
    with_value = options - flags | ({*short} - flags)
    marked: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == "--":
            return [*marked, *arguments[place:]]
        is_value = place > 0 and arguments[place - 1].replace("_", "-") in with_value
        following = arguments[place + 1].lower() if place + 1 < len(arguments) else ""
        before_output = following.endswith(".wav") or following == "-"
        name = argument.partition("=")[0].replace("_", "-")
        option = bool({name, f"-{name}"} & (flags | with_value)) or _OPTION.fullmatch(name) is not None
        option = option or ("-f" in short and argument.startswith("-f") and Path(argument[2:]).is_file())
        unlike = not argument.startswith(("--", *short))
        is_text = argument.startswith("-") and not option and not is_value and (unlike or before_output)
        marked.append(f" {argument}" if is_text else argument)
    return marked


def unmarked(word: str) -> str:
    """A text or path of the command line without the space of `mark_texts`."""
    return word[1:] if word.startswith(" -") else word
