"""The command `jaxvoice`: one file per verb, thin over pipelines. Nothing heavy is imported before a verb runs."""

from jaxvoice.cli._main import main as main
