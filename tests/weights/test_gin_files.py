"""The reader of gin files: the grammar of operative configurations, and errors with the number of the line."""

import pytest

from jaxvoice.errors import ConfigError
from jaxvoice.weights.gin_files import GinReference, parse_gin

OPERATIVE = r"""
import rave.blocks as blocks
from __gin__ import dynamic_registration
from rave import model

# Macros:
# ==============================================================================
ACTIVATION = @blocks.Snake
CAPACITY = 64
RATIOS = [4, 4, 4, 2]
NOISE = @noise/blocks.NoiseGeneratorV2()

# Parameters for blocks.EncoderV2:
# ==============================================================================
blocks.EncoderV2.activation = %ACTIVATION
blocks.EncoderV2.capacity = %CAPACITY  # a comment
blocks.EncoderV2.dilations = \
    [[1, 3, 9],
     [1, 3, 9],
     [1, 3]]
blocks.EncoderV2.ratios = %RATIOS
variational/blocks.EncoderV2.n_out = 2
variational/blocks.EncoderV2.capacity = 7

model.RAVE:
    n_channels = 1
    weights = {
        'fm': 20, "text # no comment": -1.5e-1,
        'both': (1, %CAPACITY),
    }
    noise = %NOISE
    input_mode = 'pqmf'
    nothing = None
    flag = True
cc.get_padding.mode = 'causal'
"""


def test_bindings_of_an_operative_configuration():
    found = parse_gin(OPERATIVE, "config.gin")
    assert found.value("EncoderV2", "activation") == GinReference("blocks.Snake")
    assert found.value("EncoderV2", "capacity") == 64, "the binding without a scope"
    assert found.value("EncoderV2", "dilations") == [[1, 3, 9], [1, 3, 9], [1, 3]]
    assert found.value("blocks.EncoderV2", "ratios") == [4, 4, 4, 2]
    assert found.value("EncoderV2", "n_out") == 2 and found.scoped("EncoderV2", "capacity") == [64, 7]
    assert found.value("RAVE", "weights") == {"fm": 20, "text # no comment": -0.15, "both": [1, 64]}
    assert found.value("RAVE", "noise") == GinReference("noise/blocks.NoiseGeneratorV2", called=True)
    assert found.value("RAVE", "input_mode") == "pqmf" and found.value("RAVE", "flag") is True
    assert found.value("RAVE", "nothing", 3) is None and found.value("RAVE", "absent", 3) == 3
    assert found.value("get_padding", "mode") == "causal"
    assert found.value("AVE", "flag") is None, "names are compared by components"
    assert found.macros["CAPACITY"] == 64


def test_backslashes_continue_statements_and_strings_but_not_comments():
    text = "# C:\\data\\\na.b = 1  # of C:\\\na.c = \\\r\n  'x\\\n y'\na.d = 'C:\\\\' # \\\na.e = 1 +\n"
    found = parse_gin(text.rpartition("a.e")[0], "config.gin")
    assert found.bindings == {"a.b": 1, "a.c": "x y", "a.d": "C:\\"}
    with pytest.raises(ConfigError, match="line 7: "):
        parse_gin(text, "config.gin")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b = 1\na.c = [1,\n 2\n", r"line 2: .*balanced brackets"),
        ("a.b = 1)\n", "line 1: .*balanced brackets"),
        ("a.b = \\\n  1\n\na.c = 1 +\n", "line 4: .*a Python literal, a reference @name or a macro %NAME"),
        ("a.b = __import__('os')\n", "line 1: .*a Python literal"),
        ("a.b = f(1)\n", "line 1: .*a Python literal"),
        ("a.b = {[1]: 2}\n", "line 1: .*a Python literal"),
        ("X = %Y\na.b = %X\n", r"line 2: the macro %Y is not defined; defined are X"),
        ("X = %Y\nY = [%X]\na.b = %X\n", "line 3: the value contains itself through a macro, or is too large"),
        ("include 'base.gin'\n", "line 1: .*contains no include"),
        ("hello\n", "line 1: 'hello'; it should be a binding"),
        ("  a = 1\n", "line 1: 'a = 1'; it should be a binding"),
        ("a.b == 1\n", "line 1: .*it should be a binding"),
    ],
)
def test_invalid_files_raise_an_error_with_the_line(text, message):
    with pytest.raises(ConfigError, match=rf"config\.gin, {message}"):
        parse_gin(text, "config.gin")


def test_nested_macros_cannot_grow_without_bound():
    text = "A0 = [1, 1]\n" + "".join(f"A{i + 1} = [%A{i}, %A{i}]\n" for i in range(40)) + "a.b = %A40\n"
    with pytest.raises(ConfigError, match="is too large"):
        parse_gin(text, "config.gin")
    with pytest.raises(ConfigError, match="a Python literal"):
        parse_gin("a.b = " + "[" * 5000 + "]" * 5000, "config.gin")
