"""Fixtures of the tests of experiments."""

import jax
import pytest

from jaxvoice.training import parallel


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A separate cache folder for corpora and compiled programs."""
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def one_device(monkeypatch):
    """Train on one of the eight devices, which halves compilation times."""
    mesh = parallel.data_mesh(jax.devices()[:1])
    monkeypatch.setattr(parallel, "data_mesh", lambda: mesh)
