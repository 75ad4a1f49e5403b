import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
import torch

from jaxvoice.dsp import istft, stft
from jaxvoice.dsp.framing import hann_window, num_frames
from jaxvoice.errors import ConfigError, ShapeError

# HiFi-GAN's; a short window; a hop that does not divide the frame; both.
SIZES = [(1024, 256, 1024), (1024, 256, 600), (512, 150, 512), (512, 60, 240)]


@pytest.mark.parametrize(("n_fft", "hop", "win"), SIZES)
def test_stft_equals_torch(n_fft, hop, win):
    samples = 5003
    audio = np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    expected = torch.stft(
        torch.tensor(audio), n_fft, hop, win, torch.hann_window(win), pad_mode="reflect", return_complex=True
    ).numpy()
    found = stft(audio, n_fft=n_fft, hop_length=hop, win_length=win)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=3e-5)
    assert found.shape[1] == num_frames(samples, n_fft=n_fft, hop_length=hop, pad=n_fft // 2)


@pytest.mark.parametrize(("n_fft", "hop", "win"), SIZES)
def test_stft_equals_librosa(librosa, n_fft, hop, win):
    audio = np.random.default_rng(1).standard_normal(5003).astype(np.float32)
    expected = librosa.stft(audio, n_fft=n_fft, hop_length=hop, win_length=win, pad_mode="reflect")
    found = stft(audio, n_fft=n_fft, hop_length=hop, win_length=win)
    np.testing.assert_allclose(found, expected, atol=3e-5)
    back = istft(jnp.asarray(expected), n_fft=n_fft, hop_length=hop, win_length=win, length=5003)
    np.testing.assert_allclose(
        back, librosa.istft(expected, hop_length=hop, win_length=win, n_fft=n_fft, length=5003), atol=1e-5
    )


def test_window_equals_periodic_hann_of_scipy():
    np.testing.assert_allclose(hann_window(1024), scipy.signal.get_window("hann", 1024), atol=1e-7)
    assert abs(hann_window(1024) - np.hanning(1024)).max() > 1e-3


@pytest.mark.parametrize(("n_fft", "hop", "win"), SIZES)
def test_istft_inverts_stft(n_fft, hop, win):
    samples = 5003
    audio = np.random.default_rng(2).standard_normal(samples).astype(np.float32)
    for pad in (n_fft // 2, (n_fft - hop) // 2):
        spectrum = stft(audio, n_fft=n_fft, hop_length=hop, win_length=win, pad=pad)
        back = np.asarray(istft(spectrum, n_fft=n_fft, hop_length=hop, win_length=win, pad=pad, length=samples))
        assert back.shape == (samples,)
        # Without n_fft / 2 of padding the last samples may lie under the window's last, nearly zero values.
        seen = samples if pad == n_fft // 2 else samples - hop
        first = (n_fft - win) // 2 - pad if win < n_fft else 0
        np.testing.assert_allclose(back[max(0, first) : seen], audio[max(0, first) : seen], atol=2e-5)


def test_istft_of_hifigan_padding_has_a_hop_per_frame():
    spectrum = stft(np.ones(8192, np.float32), n_fft=1024, hop_length=256, pad=384)
    assert spectrum.shape == (513, 32)
    assert istft(spectrum, n_fft=1024, hop_length=256, pad=384).shape == (8192,)
    assert istft(spectrum, n_fft=1024, hop_length=256, pad=384, length=9000).shape == (9000,)


def test_istft_equals_the_least_squares_solution():
    """For a spectrum that no signal has, against the normal equations as a matrix."""
    n_fft, hop, frames = 16, 4, 5
    rng = np.random.default_rng(3)
    spectrum = (rng.standard_normal((9, frames)) + 1j * rng.standard_normal((9, frames))).astype(np.complex64)
    samples = n_fft + hop * (frames - 1)
    window = scipy.signal.get_window("hann", n_fft)
    rows = [np.eye(samples)[t * hop : t * hop + n_fft] * window[:, None] for t in range(frames)]
    target = [scipy.fft.irfft(spectrum[:, t], n_fft) for t in range(frames)]
    expected = np.linalg.lstsq(np.concatenate(rows), np.concatenate(target), rcond=None)[0]
    found = istft(spectrum, n_fft=n_fft, hop_length=hop, pad=0)
    np.testing.assert_allclose(found[1:], expected[1:], atol=1e-4)
    assert found[0] == 0  # the only sample under no window: a periodic Hann window starts at zero


def test_stft_works_under_jit_and_vmap():
    audio = np.random.default_rng(4).standard_normal((3, 400)).astype(np.float32)
    one = functools.partial(stft, n_fft=64, hop_length=24, win_length=48)
    batched = jax.jit(jax.vmap(one))(audio)
    for row, spectrum in zip(audio, batched, strict=True):
        np.testing.assert_allclose(spectrum, one(row), atol=1e-5)


@pytest.mark.parametrize("transform", [stft, istft])
def test_derivatives_equal_those_of_a_linear_map(transform):
    """Forward mode is the map itself, reverse mode its adjoint: `<c, F t> = <F* c, t>` for real parts."""
    rng = np.random.default_rng(4)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    linear = functools.partial(transform, n_fft=64, hop_length=24, win_length=48)
    if transform is stft:
        point, tangent = draw(400), draw(400)
    else:
        point, tangent = (jax.lax.complex(draw(33, 17), draw(33, 17)) for _ in range(2))
    value, pushed = jax.jvp(linear, (point,), (tangent,))
    np.testing.assert_allclose(pushed, linear(tangent), atol=1e-5)
    cotangent = draw(*value.shape)
    if jnp.iscomplexobj(value):
        cotangent = jax.lax.complex(cotangent, draw(*value.shape))
    (pulled,) = jax.vjp(linear, point)[1](cotangent)
    # JAX's cotangents of complex numbers pair without conjugation.
    np.testing.assert_allclose(
        jnp.real(jnp.sum(cotangent * pushed)), jnp.real(jnp.sum(pulled * tangent)), rtol=1e-4, atol=1e-3
    )


def test_half_precision_is_computed_in_float32():
    audio = jnp.asarray(np.random.default_rng(5).standard_normal(2048), jnp.bfloat16)
    found = stft(audio, n_fft=256, hop_length=64)
    assert found.dtype == jnp.complex64
    np.testing.assert_array_equal(found, stft(audio.astype(jnp.float32), n_fft=256, hop_length=64))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((2, 4096), np.float32), r"\(2, 4096\).*vmap"),
        (np.zeros(4096, np.int16), "int16.*32768"),
        (np.zeros(512, np.float32), "512 samples.*at least 513"),
        (np.zeros(0, np.float32), "0 samples"),
    ],
)
def test_stft_raises_for_bad_audio(audio, message):
    with pytest.raises(ShapeError, match=message):
        stft(audio, n_fft=1024, hop_length=256)


def test_stft_raises_for_bad_sizes():
    for sizes in ({"hop_length": 0}, {"hop_length": 32, "win_length": 16}, {"hop_length": 16, "win_length": 128}):
        with pytest.raises(ConfigError, match="hop_length is"):
            stft(np.zeros(4096, np.float32), n_fft=64, **sizes)
    with pytest.raises(ConfigError, match="pad is -1; it should be at least 0"):
        stft(np.zeros(4096, np.float32), n_fft=64, hop_length=16, pad=-1)
    with pytest.raises(ShapeError, match=r"\(33, frames\)"):
        istft(np.zeros((513, 4), np.complex64), n_fft=64, hop_length=16)
