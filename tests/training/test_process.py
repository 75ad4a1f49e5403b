import os
import stat

import jax
import pytest

from jaxvoice.errors import ConfigError
from jaxvoice.training.process import enable_compilation_cache


@pytest.fixture(autouse=True)
def _restore_jax():
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


posix = pytest.mark.skipif(
    os.name != "posix", reason="Windows has no permission bits: the user's folder is private there by its own rules"
)


@posix
def test_compilation_cache_is_made_private(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVOICE_CACHE", str(tmp_path / "cache"))
    folder = enable_compilation_cache()
    assert folder == tmp_path / "cache" / "xla" and jax.config.jax_compilation_cache_dir == str(folder)
    folder.chmod(0o777)
    enable_compilation_cache()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@posix
def test_folder_of_another_user_raises_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    before = jax.config.jax_compilation_cache_dir
    with pytest.raises(ConfigError, match=r"another user.*JAXVOICE_CACHE"):
        enable_compilation_cache(tmp_path)
    assert jax.config.jax_compilation_cache_dir == before


def test_error_names_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file.*JAXVOICE_CACHE"):
        enable_compilation_cache(tmp_path / "file" / "xla")
