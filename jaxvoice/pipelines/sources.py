"""Finding models: model folders, run folders and the Hugging Face Hub."""

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxvoice.console import print_message
from jaxvoice.errors import CheckpointError, ConfigError, MissingExtraError
from jaxvoice.models.family import Family
from jaxvoice.models.family_lookup import find_family
from jaxvoice.training.run_folder import RunFolder
from jaxvoice.weights.model_folder import CONFIG_FILE, WEIGHTS_FILE, read_config_file

HUB_FILES = (WEIGHTS_FILE, "voices.safetensors", "*.json", "*.txt")
"""Files that are downloaded from the Hub: weights, configuration, and side files such as vocabularies and voices. Code
and pickles are not downloaded."""

_FINE_TUNED = frozenset(("initial_model", "layout", "layout_name"))
"""Keys of the `info` of models whose training began with the weights of another model, in earlier versions too."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def load(path: str | Path, **options: Any) -> Any:
    """Load the model at `path` into its pipeline: for example a `Vocoder`, a `Synthesizer` or a `VoiceConverter`.

    **Arguments:** `path`, a model folder, a run folder (its best model), or a Hub id `owner/name` (extra `hub`);
    `options`, keyword arguments of the pipeline's `load`.

    **Raises:** `CheckpointError`, `ConfigError` or `MissingExtraError` if the model is missing or damaged, or its
    family is unknown; `ConfigError` for an option that the pipeline does not have.
    """
    return _load_pipeline(find_family(find_model_folder(path)), path, options)


def load_with_method(path: str | Path, method: str, expected: str, **options: Any) -> Any:
    """Load the model at `path` into its pipeline, and check that the pipeline has the method `method`.

    **Arguments:** `expected`, the kind of model with this method, for error messages; `options`, keyword arguments of
    the pipeline's `load`.

    **Raises:** `ConfigError` for a pipeline without the method; otherwise as `load`.
    """
    return _load_pipeline(find_model_with_method(path, method, expected)[1], path, options)


def load_with_pipeline(path: str | Path, base: type, expected: str, **options: Any) -> Any:
    """Load the model at `path` into its pipeline, and check that the pipeline is a subclass of `base`.

    **Arguments:** `expected`, the kind of model with such a pipeline, for error messages; `options`, keyword arguments
    of the pipeline's `load`.

    **Raises:** `ConfigError` for another pipeline; otherwise as `load`.
    """
    family = find_family(find_model_folder(path))
    if not issubclass(family.pipeline_class(), base):
        raise _another_kind(path, family, expected)
    return _load_pipeline(family, path, options)


def load_for(
    cls: type,
    path: str | Path,
    method: str,
    expected: str,
    *,
    own: Callable[[Path], Any],
    own_options: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Any:
    """The pipeline of the model at `path`, for the `load` of the class `cls`.

    This is an instance of `cls`, or of the pipeline of another family with the method `method`.

    **Arguments:** `expected`, the kind of model with this method, for error messages; `own`, creates the instance of
    `cls` from a model folder; `own_options`, the options of this instance that differ from their defaults; `options`,
    further keyword arguments, which only pipelines of other families may have.

    **Raises:** `ConfigError` for a pipeline without the method, or an option that its `load` does not have.
    """
    folder, family = find_model_with_method(path, method, expected)
    pipeline = family.pipeline_class()
    if pipeline is not cls:
        return _load_pipeline(family, path, {**own_options, **options})
    for name in options:
        raise _unknown_option(path, cls, name)
    return own(folder)


def find_model_with_method(path: str | Path, method: str, expected: str) -> tuple[Path, Family]:
    """The folder and the family of the model at `path`, whose pipeline should have the method `method`.

    **Arguments:** `expected`, the kind of model with this method, for error messages.

    **Raises:** `ConfigError` for a pipeline without the method; otherwise as `find_model_folder`.
    """
    folder = find_model_folder(path)
    family = find_family(folder)
    if not hasattr(family.pipeline_class(), method):
        raise _another_kind(path, family, expected)
    return folder, family


def _another_kind(path: str | Path, family: Family, expected: str) -> ConfigError:
    return ConfigError(
        f"{path} is a model of the family {family.name!r}; it should be {expected}. Pass another folder or Hub id."
    )


def _load_pipeline(family: Family, path: str | Path, options: dict[str, Any]) -> Any:
    pipeline = family.pipeline_class()
    for name in options:
        if name not in _options_of(pipeline):
            raise _unknown_option(path, pipeline, name)
    return family.load_pipeline(path, **options)


def _options_of(pipeline: type) -> list[str]:
    """The names of the options of the `load` of a pipeline."""
    _, *options = inspect.signature(pipeline.load).parameters.values()  # pyright: ignore[reportAttributeAccessIssue]
    return [option.name for option in options if option.kind is not inspect.Parameter.VAR_KEYWORD]


def _unknown_option(path: str | Path, pipeline: type, name: str) -> ConfigError:
    return ConfigError(
        f"the option for {path} is {name!r}; it should be an option of the pipeline {pipeline.__name__}: "
        f"{', '.join(_options_of(pipeline)) or 'none'}. Omit {name}."
    )


def find_model_folder(source: str | Path) -> Path:
    """The model folder at `source`: the folder itself, the `model` folder of a run, or the downloaded model of a Hub
    id.

    **Raises:** `CheckpointError` if there is no such model; `ConfigError` if `source` is not a path or text;
    `MissingExtraError` if a Hub id needs the extra `hub`.
    """
    if not isinstance(source, str | os.PathLike):
        raise ConfigError(f"path has type {type(source).__name__}; it should be a path or a Hub id.")
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _local_model_folder(folder)
    if folder.exists():
        raise CheckpointError(f"{folder} is a file; pass the model folder or the run folder that contains it.")
    # If the parent folder exists, a missing path is a mistyped path, not a Hub id.
    if _HUB_ID.fullmatch(str(source)) and not folder.parent.exists():
        return _download(str(source))
    raise CheckpointError(f"There is no folder {folder}; pass a model folder, a run folder or a Hub id (owner/name).")


def _local_model_folder(folder: Path) -> Path:
    run = RunFolder(folder)
    if (folder / WEIGHTS_FILE).is_file():
        return folder
    if run.model.is_dir():
        return run.model
    if run.exists() and run.checkpoints.is_dir():
        raise CheckpointError(
            f"The run in {folder} has no model yet. The first validation with a finite metric saves one; continue "
            "training until then."
        )
    raise CheckpointError(
        f"{folder} is neither a model folder ({CONFIG_FILE} and {WEIGHTS_FILE}) nor a run folder with a model in it; "
        "pass a folder that training or import wrote."
    )


def _download(name: str) -> Path:
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]
    except ImportError as failure:
        raise MissingExtraError(
            f"There is no folder {name}. To download it from the Hugging Face Hub, install huggingface_hub: "
            "pip install 'jaxvoice[hub]'."
        ) from failure
    folder = _snapshot(huggingface_hub, name, HUB_FILES, ignored="*/*")
    inner = [f"{model}/{file}" for model in find_family(folder).inner_models for file in HUB_FILES]
    if inner:
        _snapshot(huggingface_hub, name, inner, ignored="*/*/*")
    return folder


def _snapshot(hub: Any, name: str, allowed: Iterable[str], ignored: str) -> Path:
    """The folder of the files of a Hub model that match `allowed` and not `ignored`; `*` also matches separators."""
    try:
        return Path(hub.snapshot_download(name, allow_patterns=list(allowed), ignore_patterns=[ignored]))
    except Exception as failure:  # the errors of its HTTP library change from version to version
        raise CheckpointError(
            f"{name} is not a folder, and it cannot be downloaded from the Hub ({failure}); check the name and the "
            "network."
        ) from failure


def print_notices(folder: Path, family: Family) -> None:
    """Print notices about the model in `folder` to stderr: its licence, and a warning if it is hardly trained."""
    info: Any = read_config_file(folder).table.get("info")
    if isinstance(info, dict):
        _print_licence(folder, info)
        _warn_of_few_steps(folder, info, family)


def _print_licence(folder: Path, info: dict[str, Any]) -> None:
    licence = info.get("licence", info.get("license"))
    if licence:
        # The text is untrusted, so control characters are escaped.
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(licence)[:500])
        print(f"Licence of the weights in {folder}: {text}", file=sys.stderr)


def _warn_of_few_steps(folder: Path, info: dict[str, Any], family: Family) -> None:
    step = info.get("step")  # imported models have none
    if type(step) is not int or step >= family.fewest_steps or not _FINE_TUNED.isdisjoint(info):
        return
    steps = "1 step" if step == 1 else f"{step} steps"
    print_message(
        "warning",
        f"The model in {folder} was trained for {steps} only (it should be at least {family.fewest_steps}), so its "
        "results are probably not usable. Continue its run with a larger --minutes or --steps.",
    )
