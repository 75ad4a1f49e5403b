"""`--distributed`: hosts must be connected before JAX creates a backend."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from jax._src import xla_bridge
from experiments import common, {name}

def connect():
    assert not xla_bridge.backends_are_initialized()
    print("connected")

common.initialize_distributed = connect
print({name}.parse(sys.argv[1:]).preset)
assert xla_bridge.backends_are_initialized()
"""


@pytest.mark.parametrize("name", ["hifigan_l40", "tts_ljspeech"])
def test_hosts_are_connected_before_any_other_use_of_jax(name):
    command = [sys.executable, "-c", PROGRAM.format(name=name), "--distributed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["connected", "tiny"]
