"""The program `jaxvoice`: one file per command. Heavy packages are imported only when a command runs."""

from jaxvoice.cli._main import main as main
