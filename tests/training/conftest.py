"""Many tests here compile the same toy step: let them share the program."""

import jax
import pytest


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory):
    """A folder in which the programs of this session, and of processes it starts, are kept."""
    return tmp_path_factory.mktemp("xla")


@pytest.fixture(autouse=True, scope="package")
def _share_programs(compilation_cache):
    options = {"jax_compilation_cache_dir": str(compilation_cache), "jax_persistent_cache_min_compile_time_secs": 0.2}
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
