"""Checks shared by the tests of the experiments' command lines."""

import re
from collections.abc import Callable, Sequence


def refused(capsys, main: Callable[[Sequence[str]], int], *flags: str) -> str:
    """The text on stderr after the experiment `main` has exited with code 2."""
    try:
        assert main(flags) == 2
    except SystemExit as end:  # tyro's own checks of single flags
        assert end.code == 2
    return capsys.readouterr().err


def flags_without_help(shown: str) -> tuple[int, list[str]]:
    """The number of flags in the help text `shown`, and the flags without a description."""
    lines = [line.strip("│ \n") for line in shown.splitlines()]
    flags = [i for i, line in enumerate(lines) if re.match(r"--?[a-z]", line)]
    bare = []
    for i in flags:
        # The negation of a long flag is on the next line. The description follows, or is beside a short flag.
        beside = re.split(r"\s{2,}", lines[i], maxsplit=1)
        after = lines[i + 1] if i + 1 < len(lines) else ""
        text = beside[1] if len(beside) > 1 else after
        if not text or text.startswith("(default") or (text.startswith("-") and not lines[i].endswith(",")):
            bare.append(lines[i])
    return len(flags), bare
