"""What tests of experiments share."""

import jax
import pytest

from jaxvoice.training import parallel


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder that no other test sees, for corpora and compiled programs."""
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def one_device(monkeypatch):
    """Train on one of the eight devices, for which programs compile in half the time."""
    mesh = parallel.data_mesh(jax.devices()[:1])
    monkeypatch.setattr(parallel, "data_mesh", lambda: mesh)
