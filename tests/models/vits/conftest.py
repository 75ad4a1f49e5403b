"""A small network of the original VITS, and its import."""

import pytest

import jaxvoice
from tests.models.vits.released import original_checkpoint, torch_network


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The torch network, the model folder of its import, and the summary of the import."""
    folder, network = tmp_path_factory.mktemp("original"), torch_network()
    original_checkpoint(folder, network)
    summary = jaxvoice.import_model(folder / "G_10.pth", folder / "model")
    return network, folder / "model", summary
