"""Many of these tests compile the same step, so they share a cache of programs."""

import jax
import pytest


@pytest.fixture(scope="session")
def compilation_cache(tmp_path_factory):
    """The cache folder of compiled programs for this session and the processes that it starts."""
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
