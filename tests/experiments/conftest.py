"""What tests of experiments share."""

import jax
import pytest


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder that no other test sees, for corpora and compiled programs."""
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)
