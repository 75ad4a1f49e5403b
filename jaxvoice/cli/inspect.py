"""`jaxvoice inspect`: show the content of a weight file, a model folder or a run folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from jaxvoice.weights.archive import Archive


@dataclass(frozen=True)
class Inspect:
    """Show the content of a weight file: modules, classes, shapes, norms and hyper-parameters. No code in the file is
    executed.

    Supported formats: torch.save (state dicts, whole modules, Lightning checkpoints), TorchScript, NeMo, safetensors,
    npz, and jaxvoice's model folders and run folders.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """The file or folder."""
    tensors: Annotated[str | None, tyro.conf.arg(metavar="REGEX")] = None
    """List the tensors whose names match REGEX, with range, mean and standard deviation; '.' matches all names."""
    code: Annotated[str | None, tyro.conf.arg(metavar="MODULE")] = None
    """Show the code of one module of a TorchScript archive, with children and constants; '.' is the root module."""
    open_questions: bool = False
    """Show what an import cannot determine, with the code of a TorchScript archive that answers it."""
    json: bool = False
    """Print everything as JSON."""
    depth: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Levels of modules to show."""
    inert: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PATTERN ...")] = ()
    """Regular expressions for full names of classes and functions of other packages, for example 'my_package[.].*'.
    Their objects are read as inert data. No code is executed."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Print the description; returns 0."""
        import shutil

        from jaxvoice.errors import ConfigError

        if self.depth is not None and self.depth < 1:
            raise ConfigError(f"--depth is {self.depth}; it should be at least 1.")
        chosen = {"--tensors": self.tensors is not None, "--code": self.code is not None}
        chosen["--open-questions"] = self.open_questions
        given = [name for name, value in chosen.items() if value]
        if len(given) > 1:
            raise ConfigError(f"{' and '.join(given)} cannot be combined; pass only one of them.")
        if self.open_questions and self.path.is_dir():
            raise ConfigError(f"{self.path} is a folder; --open-questions needs a weight file.")
        columns = max(shutil.get_terminal_size((80, 24)).columns, 40)
        values = self.folder(columns) if self.path.is_dir() else self.file(self.path, columns)
        _print_values(values)
        return 0

    def file(self, path: Path, columns: int) -> "list[str] | dict[str, Any]":
        """The description of one file."""
        from jaxvoice.inspection.description import describe
        from jaxvoice.inspection.json_values import file_values, tensors_with_statistics
        from jaxvoice.inspection.reports import file_lines, matching_tensors, tensor_lines
        from jaxvoice.weights.formats import open_archive

        with open_archive(path, inert=self.inert) as archive:
            if self.code is not None:
                return self.code_lines(archive, columns)
            if self.open_questions:
                return self.question_lines(archive)
            if self.tensors is not None:
                names = matching_tensors(archive, self.tensors)
                if self.json:
                    return {"tensors": tensors_with_statistics(archive, names)}
                return tensor_lines(archive, names, columns)
            about = describe(archive)
            return file_values(about) if self.json else file_lines(about, columns, depth=self.depth)

    def code_lines(self, archive: "Archive", columns: int) -> "list[str] | dict[str, Any]":
        """The code of a module."""
        from jaxvoice.errors import ConfigError
        from jaxvoice.torchscript import module_code

        if not hasattr(archive, "code"):
            source = archive.source
            raise ConfigError(f"{source.path} is a {source.format} file; --code needs a TorchScript archive.")
        lines = module_code(archive, (self.code or "").strip("."), width=columns)
        if self.json:
            return {"module": self.code, "code": lines}
        return lines  # comments are wrapped to the terminal width; a line break in code could change the code

    def question_lines(self, archive: "Archive") -> "list[str] | dict[str, Any]":
        """What an import of the file cannot determine."""
        from jaxvoice.models.family_lookup import recognise_checkpoint
        from jaxvoice.pipelines.importing import config_beside, read_checkpoint

        checkpoint = read_checkpoint(archive, config_beside(self.path))
        family, layout = recognise_checkpoint(checkpoint)
        text = layout.open_questions(checkpoint)
        if self.json:
            return {"family": family.name, "open_questions": text}
        return text.split("\n") if text else [f"The layout {layout.name} of {family.name} has no open questions."]

    def folder(self, columns: int) -> "list[str] | dict[str, Any]":
        """The description of a model folder or run folder."""
        from jaxvoice.pipelines.folders import folder_kind, run_progress
        from jaxvoice.weights.model_folder import WEIGHTS_FILE, read_config_file

        path, lines = self.path, []
        values: dict[str, Any] = {}
        if folder_kind(path) == "run":
            about = run_progress(path)
            values["run"] = about
            lines += _run_lines(path, about, columns)
            path = path / "model"
            if not (path / WEIGHTS_FILE).is_file() and self.tensors is None and self.code is None:
                return {"run": about} if self.json else [*lines, "", "The run has not saved a model yet."]
            lines += ["", "the best model so far"]
        about = read_config_file(path).table
        contents = _contents(path, about)
        inside = self.file(path / WEIGHTS_FILE, columns)
        if isinstance(inside, dict):
            return inside if self.tensors is not None else {**values, "model": about, "contents": contents, **inside}
        if self.tensors is not None:
            return inside
        return [*lines, *_model_lines(path, about, contents, columns), "", *inside]


def _print_values(values: "list[str] | dict[str, Any]") -> None:
    from jaxvoice.console import print_text

    if isinstance(values, list):
        print_text("\n".join(values))
        return
    import json

    from jaxvoice.inspection.json_values import to_json

    print_text(json.dumps(to_json(values), indent=2))


def _contents(path: Path, about: Mapping[str, Any]) -> Mapping[str, str]:
    """What the model folder contains beside weights and configuration."""
    from jaxvoice.config import from_dict
    from jaxvoice.errors import JaxvoiceError
    from jaxvoice.models import FAMILIES
    from jaxvoice.weights.model_folder import CONFIG_FILE

    family = next((family for family in FAMILIES if family.name == about.get("family")), None)
    if family is None or family.folder_contents is None:
        return {}
    try:
        config = from_dict(family.config, _table(about.get("config")), str(path / CONFIG_FILE))
        return family.folder_contents(path, config)
    except JaxvoiceError as failure:
        return {"error": str(failure)}


def _model_lines(path: Path, about: Mapping[str, Any], contents: Mapping[str, str], columns: int) -> list[str]:
    from jaxvoice.text_tables import table

    config, info = _table(about.get("config")), _table(about.get("info"))
    cells = [("model folder", str(path)), ("family", f"{about.get('family')}, by jaxvoice {about.get('jaxvoice')}")]
    cells += [("weights sha256", _checksum(path, about)), *contents.items()]
    cells += [(name, _one_line(info[name])) for name in ("licence", "license", "origin", "source") if name in info]
    cells += [
        (name, _one_line(value))
        for name, value in info.items()
        if name not in ("licence", "license", "origin", "source")
    ]
    cells += [("mel contract" if name == "mel" else name, _one_line(value)) for name, value in config.items()]
    return table(_printable_cells(cells), columns)


def _checksum(path: Path, about: Mapping[str, Any]) -> str:
    """The SHA-256 of the weight file, and a note if it does not match `config.json`."""
    from jaxvoice.weights.model_folder import weights_sha256

    found, stored = weights_sha256(path), about.get("sha256")
    if stored in (None, found):
        return found
    return f"{found}; does not match config.json, which records {_one_line(stored)}"


def _run_lines(path: Path, about: Mapping[str, Any], columns: int) -> list[str]:
    from jaxvoice.text_tables import table

    config, steps = about["config"], about["checkpoints"]
    kept = f"step {steps[-1]:,}" + (f" (and {', '.join(f'{s:,}' for s in steps[:-1])})" if steps[1:] else "")
    cells = [
        ("run folder", str(path)),
        # A task without a family, such as one that the user wrote, is known by its class.
        ("family", str(config["family"])) if config.get("family") else ("task", str(about["task"])),
        ("last checkpoint", kept if steps else "none yet"),
    ]
    if about["last_step"] is not None:
        cells.append(("last logged step", f"{about['last_step']:,}"))
    for name in ("best", "last"):
        if about[name]:
            line = dict(about[name])
            rank = line.pop("rank", 0)
            phase = f", phase {_one_line(rank)} of training" if rank else ""
            cells.append((f"{name} validation", f"step {line.pop('step'):,}{phase}: {_one_line(line)}"))
    for name, value in config.items():
        if name not in ("task", "family", "versions", "schema"):
            cells.append(("mel contract" if name == "mel" else name, _one_line(value)))
    cells.append(("versions", _one_line(_table(config.get("versions")))))
    return table(_printable_cells([cell for cell in cells if cell[1]]), columns)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _one_line(value: Any) -> str:
    """A JSON object on one line: `rate 22050, mels 80`."""
    from jaxvoice.inspection.layer_text import value_text

    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} ({_one_line(below)})" if isinstance(below, Mapping) else f"{name} {_one_line(below)}"
            for name, below in value.items()
        )
    return value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else value_text(value)


def _printable_cells(cells: list[tuple[str, str]]) -> list[tuple[str, str]]:
    from jaxvoice.console import printable

    return [(printable(name), printable(text)) for name, text in cells]
