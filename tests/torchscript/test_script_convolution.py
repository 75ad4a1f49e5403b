"""Convolutions of every kind beside torch, scripted and traced."""

import pytest
import torch

from tests.torchscript.script_agreement import both, values

AUDIO, PICTURE, SEQUENCE, W1 = (2, 4, 15), (2, 4, 7, 6), (2, 5, 8), (6, 4, 3)
MASK = torch.tensor([[False, False, True, False, True], [False, False, False, False, True]])

CASES = [
    *(
        (f"F.conv1d(x, y, z, {options})", [AUDIO, W1, (6,)])
        for options in ("1", "2", "1, 1", "3, 2", "1, 2, 2", "2, 3, 3", "1, 'same'", "1, 'valid'", "1, 'same', 3")
    ),
    ("F.conv1d(x, y)", [AUDIO, W1]),
    ("F.conv1d(x, y, None, 2, 1, 1, 2)", [AUDIO, (6, 2, 3)]),
    ("F.conv1d(x, y, None, 1, 1, 2, 4)", [AUDIO, (4, 1, 3)]),
    ("F.conv1d(x, y)", [(4, 9), W1]),
    *(
        (f"F.conv_transpose1d(x, y, z, {options})", [AUDIO, (4, 3, 4), (3,)])
        for options in ("1", "2", "2, 1", "3, 1, 1", "2, 0, 1", "4", "5", "2, 1, 0, 1, 2", "3, 2, 1, 1, 2")
    ),
    ("F.conv_transpose1d(x, y, None, 2, 1, 0, 2)", [AUDIO, (4, 3, 4)]),
    ("F.conv_transpose1d(x, y, None, 2, 1, 0, 2, 2)", [AUDIO, (4, 3, 4)]),
    ("F.conv_transpose1d(x, y)", [(4, 5), (4, 3, 2)]),
    *(
        (f"F.conv2d(x, y, z, {options})", [PICTURE, (6, 4, 3, 2), (6,)])
        for options in ("1", "2", "[2, 1]", "1, 1", "1, [0, 1]", "1, 2, 2", "2, [1, 0], [1, 2]")
    ),
    ("F.conv2d(x, y, z, 1, 'same')", [PICTURE, (6, 4, 3, 3), (6,)]),
    ("F.conv2d(x, y, None, 1, 1, 1, 2)", [PICTURE, (6, 2, 3, 3)]),
    ("F.conv_transpose2d(x, y, z, 2, 1)", [PICTURE, (4, 3, 4, 4), (3,)]),
    ("F.conv_transpose2d(x, y, None, [2, 1], [1, 0], [1, 0], 2)", [PICTURE, (4, 3, 3, 2)]),
    ("F.conv3d(x, y, None, 1, 1)", [(1, 2, 4, 5, 3), (3, 2, 3, 3, 3)]),
]


@pytest.mark.parametrize(("source", "shapes"), CASES, ids=[f"{n}-{source}" for n, (source, _) in enumerate(CASES)])
def test_equals_torch(agree, source, shapes):
    inputs = values(0, *shapes)
    for module in both(source, inputs):
        agree(module, *inputs)
