"""Speaker encoders with the weights of golden cases."""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

import jaxvoice
from jaxvoice.dsp import MelConfig
from jaxvoice.models.speaker_encoder import (
    LSTMConfig,
    ResNetConfig,
    SpeakerEncoderConfig,
    SpeakerNetwork,
    build,
)
from jaxvoice.weights import load_state
from tests.reference import golden


def mels(bands: int) -> MelConfig:
    """A contract for encoders that read mels, whose other settings do not matter."""
    return MelConfig(16000, 1024, 160, 400, bands, fmax=None)


CASES = {
    "resnet_spec": SpeakerEncoderConfig(ResNetConfig(log_input=False), mels(64)),
    "resnet_spec_sap": SpeakerEncoderConfig(ResNetConfig(log_input=False, pooling="SAP"), mels(64)),
    "resnet_wav": SpeakerEncoderConfig(),
    "lstm": SpeakerEncoderConfig(LSTMConfig(), mels(80)),
    "lstm_without_projection": SpeakerEncoderConfig(LSTMConfig(projection=False), mels(80)),
    "lstm_wav": SpeakerEncoderConfig(LSTMConfig(hidden=256)),
}
"""The configurations of the golden cases."""


def load(config: SpeakerEncoderConfig, arrays: Mapping[str, Any]) -> SpeakerNetwork:
    """The network with all of `arrays`, and no others."""
    return load_state(eqx.filter_eval_shape(build, config, key=jax.random.key(0)), arrays)


def released(name: str) -> tuple[golden.Case, SpeakerNetwork]:
    """The golden case, and its network with the stored buffers."""
    case = golden.case(f"speaker_encoder/{name}")
    stored = {key.removeprefix("state."): array for key, array in case.arrays.items() if key.startswith("state.")}
    return case, load(CASES[name], case.state_dict() | stored)


def input_of(case: golden.Case) -> np.ndarray:
    """The waveforms of a case, or its mels with time first."""
    return case["wav"] if "wav" in case.arrays else case["spec"].swapaxes(1, 2)


def with_bands(config: SpeakerEncoderConfig, bands: int) -> SpeakerEncoderConfig:
    """`config` with another number of bands."""
    return replace(config, mel=replace(config.mel, num_mels=bands))


def resemblyzer(folder: Path) -> SpeakerNetwork:
    """The released network of Resemblyzer, imported in `folder` from the wheel in the folder `JAXVOICE_WHEELS`.

    Skips the test if there is no wheel.
    """
    wheels = Path(os.environ.get("JAXVOICE_WHEELS", os.devnull)).glob("*.whl")
    found = max((path for path in wheels if path.name.lower().startswith("resemblyzer-")), default=None)
    if found is None:
        pytest.skip("JAXVOICE_WHEELS names no folder with the wheel (pip download --no-deps resemblyzer)")
    with zipfile.ZipFile(found) as files:
        weights = files.extract("resemblyzer/pretrained.pt", folder)
    jaxvoice.import_model(weights, folder / "model")
    return jaxvoice.SpeakerEncoder.load(folder / "model").network
