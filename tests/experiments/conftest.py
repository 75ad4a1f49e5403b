"""Fixtures of the tests of experiments."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """A working directory without runs: an experiment resumes the one in its default folder, if there is one."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A separate cache folder for corpora and compiled programs."""
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "cache"))
    yield
    jax.config.update("jax_compilation_cache_dir", before)
