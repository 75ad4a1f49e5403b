"""Pooling, padding, interpolation and Fourier transforms beside torch, scripted and traced."""

import pytest
import torch

from tests.torchscript.script_agreement import both, values

AUDIO, PICTURE, SEQUENCE, W1 = (2, 4, 15), (2, 4, 7, 6), (2, 5, 8), (6, 4, 3)
MASK = torch.tensor([[False, False, True, False, True], [False, False, False, False, True]])

CASES = [
    *(
        (f"F.avg_pool1d(x, {options})", [AUDIO])
        for options in (
            "2",
            "2, 2",
            "3, 2, 1",
            "4, 3, 2",
            "3, 1, 1, False, False",
            "4, 3, 1, True",
            "4, 3, 1, True, False",
            "2, 2, 0, True",
            "2, 3, 1, True",
        )
    ),
    *(
        (f"F.max_pool1d(x, {options})", [AUDIO])
        for options in ("2", "3, 2", "3, 2, 1", "3, 1, 1, 2", "2, 2, 0, 1, True")
    ),
    ("F.avg_pool2d(x, 2)", [PICTURE]),
    ("F.avg_pool2d(x, [3, 2], [2, 1], [1, 0])", [PICTURE]),
    ("F.avg_pool2d(x, 2, 2, 0, False, True, 3)", [PICTURE]),
    ("F.max_pool2d(x, 3, 2, 1)", [PICTURE]),
    ("F.avg_pool3d(x, 2)", [(1, 2, 4, 4, 4)]),
    *((f"F.adaptive_avg_pool1d(x, {n})", [AUDIO]) for n in (1, 3, 4, 7, 15)),
    ("F.adaptive_avg_pool2d(x, [1, 3])", [PICTURE]),
    ("F.adaptive_max_pool1d(x, 4)", [AUDIO]),
    ("F.lp_pool1d(x, 2.0, 3)", [AUDIO]),
    *(
        (f"F.pad(x, {options})", [AUDIO])
        for options in (
            "[1, 2]",
            "[1, 2, 0, 1]",
            "[-1, 2]",
            "[1, -3]",
            "[2, 1], 'constant', 3.5",
            "[3, 2], 'reflect'",
            "[3, 2], 'replicate'",
            "[3, 2], 'circular'",
            "[0, 0]",
        )
    ),
    ("F.pad(x, [1, 2, 2, 1], 'reflect')", [PICTURE]),
    ("F.pad(x, [1, 2, 2, 1], 'replicate')", [PICTURE]),
    ("F.pad(x, [1, 1], 'constant', 2.0)", [torch.arange(4)]),
    ("F.pad(x, [1, 1], value=1.0)", [(3, 4)]),
    *(
        (f"F.interpolate(x, {options})", [AUDIO])
        for options in (
            "scale_factor=2.0",
            "size=20",
            "scale_factor=0.6",
            "size=7",
            "scale_factor=2.0, mode='linear'",
            "size=[11], mode='linear', align_corners=True",
            "scale_factor=1.7, mode='linear', align_corners=False",
            "size=31, mode='nearest-exact'",
            "scale_factor=0.5, mode='area'",
            "scale_factor=1.3, recompute_scale_factor=True",
            "size=1, mode='linear', align_corners=True",
        )
    ),
    *(
        (f"F.interpolate(x, {options})", [PICTURE])
        for options in (
            "scale_factor=2.0",
            "size=[9, 4]",
            "scale_factor=1.5, mode='bilinear'",
            "size=[9, 4], mode='bilinear', align_corners=True",
        )
    ),
    *((f"torch.fft.{name}(x)", [AUDIO]) for name in ("rfft", "fft", "ihfft")),
    ("torch.fft.irfft(torch.fft.rfft(x))", [AUDIO]),
    ("torch.fft.irfft(torch.fft.rfft(x, norm='ortho'), n=15, norm='ortho')", [AUDIO]),
    ("torch.fft.ifft(torch.fft.fft(x, dim=1), dim=1)", [AUDIO]),
    *(
        (f"torch.stft(x, {options})", [(2, 40), torch.hann_window(8)])
        for options in (
            "8, 2, 8, y, return_complex=True",
            "8, 3, 8, y, center=False, return_complex=True",
            "16, 4, 8, y, return_complex=True",
            "8, 2, 8, y, normalized=True, return_complex=True",
            "8, 2, 8, y, onesided=False, return_complex=True",
            "8, 2, 8, y, pad_mode='constant', return_complex=True",
        )
    ),
    ("torch.stft(x, 8, 2, 8, y, return_complex=True)", [(40,), torch.hann_window(8)]),
    ("torch.istft(torch.stft(x, 8, 2, 8, y, return_complex=True), 8, 2, 8, y)", [(2, 40), torch.hann_window(8)]),
    (
        "torch.istft(torch.stft(x, 8, 2, 8, y, return_complex=True), 8, 2, 8, y, length=37)",
        [(40,), torch.hann_window(8)],
    ),
]


@pytest.mark.parametrize(("source", "shapes"), CASES, ids=[f"{n}-{source}" for n, (source, _) in enumerate(CASES)])
def test_equals_torch(agree, source, shapes):
    inputs = values(0, *shapes)
    for module in both(source, inputs):
        agree(module, *inputs)
