"""Windows and numbers of frames, which the STFT and the mel contract share; without jax."""

import functools

import numpy as np
from jaxtyping import Float


@functools.lru_cache(maxsize=64)
def hann_window(win_length: int, n_fft: int | None = None) -> Float[np.ndarray, " n_fft"]:
    """Periodic Hann window of `win_length` samples, zero-padded on both sides to `n_fft`, float32 and read-only.

    Periodic as `scipy.signal.get_window("hann", n)` and `torch.hann_window(n)`; the extra zero of an odd difference
    goes to the right, as in torch and librosa.
    """
    n_fft = win_length if n_fft is None else n_fft
    window = np.zeros(n_fft, np.float32)
    left = (n_fft - win_length) // 2
    window[left : left + win_length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    window.flags.writeable = False
    return window


def num_frames(samples: int, *, n_fft: int, hop_length: int, pad: int) -> int:
    """Number of whole frames of `n_fft` samples in a signal of `samples`, padded by `pad` on both sides."""
    return max(0, (samples + 2 * pad - n_fft) // hop_length + 1)


def min_samples(*, n_fft: int, pad: int) -> int:
    """The fewest samples that give one frame, and of which `pad` can be reflected at either end."""
    return max(pad + 1, n_fft - 2 * pad, 1)
