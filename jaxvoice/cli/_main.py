"""Choosing the verb, and turning errors into one line and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Protocol

import tyro

from jaxvoice._version import __version__
from jaxvoice.cli._report import report
from jaxvoice.cli.demo_corpus import DemoCorpus
from jaxvoice.cli.preflight import CheckCorpus
from jaxvoice.cli.usage import one_line_usage
from jaxvoice.cli.vocode import Vocode
from jaxvoice.errors import JaxvoiceError

_DESCRIPTION = """Published speech systems in JAX and Equinox: train them, run them, take them apart.

jaxvoice VERB --help explains a verb; jaxvoice --version prints the version.
The exit code is 0, or 2 if anything failed."""


class Verb(Protocol):
    """A parsed verb: its options, and what it does."""

    @property
    def debug(self) -> bool: ...

    def run(self) -> int:
        """Do it; returns the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's) and return its exit code.

    A `JaxvoiceError`, or an `OSError` such as a lack of permission, becomes one line on stderr and the code 2, unless
    `--debug` asks for its traceback. Any other exception is a bug and keeps its traceback. Bad usage raises
    `SystemExit(2)` after one line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"jaxvoice {__version__}")
        return 0
    verb: Verb = one_line_usage(
        lambda: tyro.extras.subcommand_cli_from_dict(
            {"vocode": Vocode, "preflight": CheckCorpus, "demo-corpus": DemoCorpus},
            prog="jaxvoice",
            description=_DESCRIPTION,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    try:
        return verb.run()
    except JaxvoiceError as failure:
        if verb.debug:
            raise
        report("error", failure)
        return 2
    except OSError as failure:
        if verb.debug:
            raise
        name = failure.filename
        if isinstance(name, bytes):
            name = os.fsdecode(name)
        report("error", failure if name is None else f"{name}: {failure.strerror}")
        return 2
    except KeyboardInterrupt:
        report("error", "interrupted.")
        return 130
