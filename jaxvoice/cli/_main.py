"""The entry point of the program `jaxvoice`."""

import sys
from collections.abc import Sequence
from typing import Protocol

import tyro

from jaxvoice._version import __version__
from jaxvoice.cli._dashed_texts import mark_texts
from jaxvoice.cli._setup import option_names
from jaxvoice.cli.align import Align
from jaxvoice.cli.clone import Clone
from jaxvoice.cli.compare import Compare
from jaxvoice.cli.compare_voices import CompareVoices
from jaxvoice.cli.convert import Convert
from jaxvoice.cli.demo_corpus import DemoCorpus
from jaxvoice.cli.dissect import Dissect
from jaxvoice.cli.embed import Embed
from jaxvoice.cli.export import Export
from jaxvoice.cli.import_weights import Import
from jaxvoice.cli.inspect import Inspect
from jaxvoice.cli.panel import Panel
from jaxvoice.cli.preflight import PreflightCommand
from jaxvoice.cli.serve import Serve
from jaxvoice.cli.speak import Speak
from jaxvoice.cli.teacher_force import TeacherForce
from jaxvoice.cli.transfer import Transfer
from jaxvoice.cli.vocode import Vocode
from jaxvoice.cli.voice import WriteVoice
from jaxvoice.console import parse_command_line, run_command

_DESCRIPTION = """Published speech systems in JAX and Equinox: training, inference, and tools to inspect models.

jaxvoice COMMAND --help explains a command. jaxvoice --version prints the version.
The exit code is 0 on success and 2 after an error. compare exits with 1 if the models differ."""

_COMMANDS = {
    "speak": Speak,
    "clone": Clone,
    "vocode": Vocode,
    "convert": Convert,
    "transfer": Transfer,
    "voice": WriteVoice,
    "embed": Embed,
    "compare-voices": CompareVoices,
    "align": Align,
    "inspect": Inspect,
    "dissect": Dissect,
    "panel": Panel,
    "serve": Serve,
    "import": Import,
    "export": Export,
    "compare": Compare,
    "preflight": PreflightCommand,
    "demo-corpus": DemoCorpus,
    "teacher-force": TeacherForce,
}


class Command(Protocol):
    """A parsed command with its options."""

    @property
    def debug(self) -> bool: ...

    def run(self) -> int:
        """Run the command and return the exit code."""
        ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default `sys.argv[1:]`, and return its exit code.

    Errors are printed on one line. A usage error raises `SystemExit(2)`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        return run_command(_print_version)
    if arguments[:1] in (["speak"], ["clone"]):
        arguments[1:] = mark_texts(arguments[1:], _COMMANDS[arguments[0]])
    command: Command = parse_command_line(
        lambda: tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="jaxvoice",
            description=_DESCRIPTION,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    return run_command(command.run, debug=command.debug, options=option_names(command))


def _print_version() -> int:
    print(f"jaxvoice {__version__}")
    return 0
