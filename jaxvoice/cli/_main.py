"""The command `jaxvoice` and its verbs."""

import sys
from collections.abc import Sequence
from typing import Protocol

import tyro

from jaxvoice._version import __version__
from jaxvoice.cli.align import Align
from jaxvoice.cli.compare import Compare
from jaxvoice.cli.demo_corpus import DemoCorpus
from jaxvoice.cli.export import Export
from jaxvoice.cli.import_weights import Import
from jaxvoice.cli.inspect import Inspect
from jaxvoice.cli.preflight import CheckCorpus
from jaxvoice.cli.speak import Speak
from jaxvoice.cli.teacher_force import TeacherForce
from jaxvoice.cli.vocode import Vocode
from jaxvoice.console import one_line_usage, run_command

_DESCRIPTION = """Published speech systems in JAX and Equinox: training, inference, and tools to inspect models.

jaxvoice VERB --help explains a verb; jaxvoice --version prints the version.
The exit code is 0, or 2 after an error; compare returns 1 if the models differ."""

_VERBS = {
    "speak": Speak,
    "vocode": Vocode,
    "align": Align,
    "inspect": Inspect,
    "import": Import,
    "export": Export,
    "compare": Compare,
    "preflight": CheckCorpus,
    "demo-corpus": DemoCorpus,
    "teacher-force": TeacherForce,
}


class Verb(Protocol):
    """A parsed verb with its options."""

    @property
    def debug(self) -> bool: ...

    def run(self) -> int:
        """Run the verb; returns the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's) and return its exit code.

    Errors are printed on one line. A usage error raises `SystemExit(2)`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"jaxvoice {__version__}")
        return 0
    verb: Verb = one_line_usage(
        lambda: tyro.extras.subcommand_cli_from_dict(
            _VERBS,
            prog="jaxvoice",
            description=_DESCRIPTION,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    return run_command(verb.run, debug=verb.debug)
