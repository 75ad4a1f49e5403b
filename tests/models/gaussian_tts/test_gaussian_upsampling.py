"""Gaussian upsampling compared with its definition in loops, torch's derivatives, and worked examples."""

import math

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.models.gaussian_tts import GaussianUpsampling, UpsamplingConfig, block_causal, upsampling_weights

WORKED = [3.0, 3.0, 2.0, 7.0, 2.0]
weights_of = eqx.filter_jit(upsampling_weights)


def weights(durations, sigma=1.0, *, phone_count=None, frame_count=None, frames=None) -> np.ndarray:
    durations = np.atleast_2d(np.asarray(durations, np.float32))
    total = np.floor(durations.sum(1) + 1e-3).astype(np.int32)
    phone_count = np.full(len(durations), durations.shape[1]) if phone_count is None else phone_count
    counts = {"phone_count": phone_count, "frame_count": total if frame_count is None else frame_count}
    counts = {name: np.asarray(count, np.int32) for name, count in counts.items()}
    sigma = jnp.asarray(np.asarray(sigma, np.float32))
    return np.asarray(weights_of(jnp.asarray(durations), sigma, **counts, frames=frames or int(total.max())))


def by_definition(durations, sigmas, frames) -> np.ndarray:
    """Densities of one example, phoneme by phoneme and frame by frame, in double precision."""
    table = np.zeros((frames, len(durations)))
    start = 0.0
    for i, (duration, sigma) in enumerate(zip(durations, sigmas, strict=True)):
        centre = start + duration / 2
        start += duration
        for t in range(frames):
            if duration > 0:
                table[t, i] = math.exp(-((t + 0.5 - centre) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    return table / table.sum(1, keepdims=True)


def wrong(durations, *, cleared: str, offset: float) -> np.ndarray:
    """Upsampling with known errors: one row or column of the shifted sums is cleared, and frames start at `offset`."""
    durations = np.asarray(durations)
    sums = np.roll(np.cumsum(durations, 1), 1, axis=1)
    sums[(slice(None), 0) if cleared == "column" else (0, slice(None))] = 0
    centres = sums + durations / 2
    times = np.arange(int(durations.sum(1).max())) + offset
    logits = -0.5 * (times[None, :, None] - centres[:, None]) ** 2
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def assert_worked_examples(pair: np.ndarray, five: np.ndarray) -> None:
    np.testing.assert_allclose(pair, [[0.6225, 0.3775], [0.3775, 0.6225]], atol=5e-5)
    np.testing.assert_allclose(five[2], [0.8175, 0.1824, 0.0001, 0, 0], atol=6e-5)
    np.testing.assert_allclose(five[9], [0, 0, 0.2451, 0.7549, 0], atol=6e-5)
    np.testing.assert_allclose(five[13], [0, 0, 0, 0.7549, 0.2451], atol=6e-5)
    assert "".join(map(str, five.argmax(1))) == "00011122233333444"


def test_worked_examples():
    assert_worked_examples(weights([1, 1])[0], weights(WORKED)[0])


@pytest.mark.parametrize(("cleared", "offset"), [("row", 0.5), ("column", 1.5), ("column", 0.0), ("row", 1.5)])
def test_worked_examples_detect_wrong_variants(cleared, offset):
    two_fives = np.array([WORKED, WORKED])
    with pytest.raises(AssertionError):
        assert_worked_examples(
            wrong(np.array([[1.0, 1.0]] * 2), cleared=cleared, offset=offset)[0],
            wrong(two_fives, cleared=cleared, offset=offset)[0],
        )
    # The same code without the errors passes.
    right = [wrong(np.array(d), cleared="column", offset=0.5)[0] for d in ([[1.0, 1.0]], two_fives)]
    assert_worked_examples(*right)


def test_weights_equal_the_definition():
    random = np.random.default_rng(0)
    durations = random.uniform(0.3, 9, (3, 12)).astype(np.float32)
    durations[:, 4] = 0
    sigma = random.uniform(0.4, 4, (3, 12)).astype(np.float32)
    ours = weights(durations, sigma, frame_count=[40] * 3, frames=40)
    for row, (d, s) in enumerate(zip(durations, sigma, strict=True)):
        np.testing.assert_allclose(ours[row], by_definition(d, s, 40), atol=1e-5)
    shared = weights(durations, 1.7, frame_count=[40] * 3, frames=40)
    np.testing.assert_allclose(shared[0], by_definition(durations[0], [1.7] * 12, 40), atol=1e-5)


def test_weights_sum_to_one_and_are_zero_in_padding():
    durations = np.array([[*WORKED, 5.0, 9.0], [0, 3, 3, 2, 0, 7, 2]], np.float32)
    table = weights(durations, phone_count=[5, 7], frame_count=[17, 15], frames=20)
    valid = np.arange(20) < np.array([[17], [15]])
    np.testing.assert_allclose(table.sum(-1)[valid], 1, atol=1e-6)
    assert not table[~valid].any() and not table[0, :, 5:].any() and not table[1][:, [0, 4]].any()
    np.testing.assert_allclose(table[0, :17, :5], weights(WORKED)[0], atol=1e-6)
    # A phoneme of duration 0 does not move other phonemes.
    np.testing.assert_allclose(table[1, :, [1, 2, 3, 5, 6]].T[:15], weights(WORKED)[0][:15], atol=1e-6)


def test_weights_are_independent_of_padding_and_batch_order():
    durations = np.random.default_rng(1).integers(1, 9, (4, 9)).astype(np.float32)
    count = durations.sum(1).astype(np.int32)
    base = weights(durations, 2.0)
    longer = weights(
        np.pad(durations, ((0, 0), (0, 6)), constant_values=4), 2.0, phone_count=[9] * 4, frame_count=count
    )
    wider = weights(durations, 2.0, frames=base.shape[1] + 13, frame_count=count)
    np.testing.assert_array_equal(longer[:, : base.shape[1], :9], base)
    np.testing.assert_array_equal(wider[:, : base.shape[1]], base)
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(weights(durations[order], 2.0, frames=base.shape[1]), base[order])


def test_weights_scale_with_durations_and_sigma():
    slow = weights(3 * np.array(WORKED), 3.0)[0]
    np.testing.assert_allclose(slow[1::3], weights(WORKED)[0], atol=1e-6)


@pytest.mark.parametrize("each", [False, True])
def test_derivatives_equal_torch(each):
    random = np.random.default_rng(2)
    durations = np.array([[4, 2, 0, 6.5, 3], [2, 5, 1, 0, 0]], np.float32)
    phone_count, frame_count, frames = np.array([5, 3]), np.array([15, 8]), 16
    start = random.uniform(0.6, 2.5, durations.shape) if each else np.array(1.3)
    cotangent = random.standard_normal((2, frames, 5)).astype(np.float32)

    sigma = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    d = torch.tensor(durations, dtype=torch.float64)
    times = torch.arange(frames, dtype=torch.float64)[None, :, None] + 0.5
    wide = sigma.expand(d.shape)[:, None]
    log_density = torch.distributions.Normal((torch.cumsum(d, 1) - d / 2)[:, None], wide).log_prob(times)
    exists = torch.tensor((durations > 0) & (np.arange(5) < phone_count[:, None]))[:, None]
    expected = torch.softmax(log_density.masked_fill(~exists, -torch.inf), -1)
    expected = expected * torch.tensor(np.arange(frames) < frame_count[:, None])[..., None]
    (expected * torch.tensor(cotangent)).sum().backward()

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradient(sigma):
        table = upsampling_weights(
            jnp.asarray(durations),
            sigma,
            phone_count=jnp.asarray(phone_count),
            frame_count=jnp.asarray(frame_count),
            frames=frames,
        )
        return jnp.sum(table * cotangent), table

    of_sigma, table = gradient(jnp.asarray(start, jnp.float32))
    np.testing.assert_allclose(table, expected.detach(), atol=1e-5)
    np.testing.assert_allclose(of_sigma, sigma.grad, atol=2e-5)


def small(mode, **options) -> GaussianUpsampling:
    return GaussianUpsampling(3, UpsamplingConfig(mode, **options), key=jax.random.key(0))


@eqx.filter_jit
def upsample(module, hidden, durations, phone_count, frame_count, frames):
    return module(hidden, durations, phone_count=phone_count, frame_count=frame_count, frames=frames)


def test_proportional_sigma_assigns_frames_by_duration():
    """With a shared sigma, boundaries are midway between centres, so a stop after a long vowel gets too many frames."""
    durations = jnp.asarray([[20.0, 4.0]])
    hidden, count = jnp.zeros((1, 2, 3)), (jnp.asarray([2]), jnp.asarray([24]))
    parts = {}
    for mode in ("global", "proportional"):
        _, table = upsample(small(mode), hidden, durations, *count, 24)
        parts[mode] = np.bincount(np.asarray(table)[0].argmax(1)).tolist()
    assert parts["global"] == [16, 8]
    assert abs(parts["proportional"][1] - 4) <= 1


def test_initial_sigma_of_each_mode():
    durations, hidden = (
        jnp.asarray([WORKED, [2.0, 0, 0, 0, 0]]),
        jnp.asarray(np.random.default_rng(0).random((2, 5, 3))),
    )
    hidden = hidden.astype(jnp.float32)
    find = eqx.filter_jit(lambda module: module.sigma(hidden, durations))
    np.testing.assert_allclose(find(small("global")), 1)
    np.testing.assert_allclose(find(small("global", sigma_init=2.5)), 2.5, rtol=1e-6)
    np.testing.assert_allclose(find(small("predicted", sigma_init=2.5)), np.full((2, 5), 2.5), rtol=1e-5)
    proportional = np.asarray(find(small("proportional")))
    np.testing.assert_allclose(proportional[0], np.array(WORKED) / 12**0.5, rtol=1e-6)
    with pytest.raises(Exception, match=r"sigma_init is .*; it should be positive"):
        small("global", sigma_init=0.0)


@pytest.mark.parametrize("mode", ["global", "proportional", "predicted"])
def test_upsampling_equals_weighted_sums_and_has_gradients(mode):
    random = np.random.default_rng(3)
    hidden = jnp.asarray(random.standard_normal((2, 6, 3)).astype(np.float32))
    durations = jnp.asarray([[*WORKED, 0.0], [4.0, 3.0, 0, 5.0, 0, 0]])
    count = jnp.asarray([5, 4]), jnp.asarray([17, 12])

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradients(both):
        module, hidden = both
        mixed, table = module(hidden, durations, phone_count=count[0], frame_count=count[1], frames=18)
        return jnp.sum(jnp.square(mixed)), (mixed, table)

    (of_module, of_hidden), (mixed, table) = gradients((small(mode), hidden))
    np.testing.assert_allclose(mixed, np.asarray(table) @ np.asarray(hidden), atol=1e-5)
    for leaf in [*jax.tree.leaves(of_module), of_hidden]:
        assert np.isfinite(leaf).all() and np.any(leaf)
    assert not np.asarray(of_hidden)[1, 4:].any()


def test_weights_are_exact_for_bfloat16_states_of_long_utterances():
    """Squared distances over 870 frames are beyond half precision, and so are centres beyond 256 in bfloat16."""
    durations = np.resize([6, 7, 6], (1, 137)).astype(np.float32)
    total = int(durations.sum())
    count = jnp.asarray([137]), jnp.asarray([total])
    hidden = jnp.ones((1, 137, 3), jnp.bfloat16)
    low = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), small("global"))
    mixed, table = upsample(low, hidden, jnp.asarray(durations), *count, 870)
    assert mixed.dtype == jnp.bfloat16 and table.dtype == jnp.float32
    np.testing.assert_allclose(table[0, :total], by_definition(durations[0], [1.0] * 137, total), atol=1e-5)
    np.testing.assert_allclose(mixed[0, :total].astype(jnp.float32), 1, atol=0.01)
    with np.errstate(over="ignore"):
        assert np.isinf(np.float16(total) ** 2)
    assert not np.asarray(mixed[0, total:]).any()


def test_tiny_sigma_and_empty_examples_give_finite_results():
    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradient(module):
        counts = {"phone_count": jnp.asarray([5, 0]), "frame_count": jnp.asarray([17, 3]), "frames": 17}
        mixed, table = module(jnp.ones((2, 5, 3)), jnp.asarray([WORKED, [0.0] * 5]), **counts)
        return jnp.sum(mixed), table

    narrow = eqx.tree_at(lambda module: module.log_sigma, small("global"), jnp.asarray(-40.0))
    of_sigma, table = gradient(narrow)
    assert np.isfinite(table).all() and np.isfinite(of_sigma.log_sigma)
    assert np.asarray(table)[0].argmax(1).tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 5 + [4] * 3
    assert not np.asarray(table)[1].any()


def scattered(ends: list[int]) -> np.ndarray:
    """The mask as computed in the reference: ones at the ends of phonemes, then sums along rows and columns."""
    size = ends[-1] + 1
    table = np.zeros((size, size), int)
    table[ends, ends] = 1
    table = np.cumsum(table[::-1], axis=0)[::-1]
    table[ends, ends] = 0
    return np.cumsum(table, axis=1)[:-1, :-1]


def test_block_causal_mask_covers_own_and_earlier_phonemes():
    durations = np.array([[0, 3, 3, 2, 7, 2, 0], [1, 1, 0, 4, 0, 0, 0]], np.float32)
    allowed = np.asarray(eqx.filter_jit(block_causal)(jnp.asarray(durations), 17))
    np.testing.assert_array_equal(allowed[0], scattered([3, 6, 8, 15, 17]) == 0)
    for example, ends in zip(allowed, np.cumsum(durations, 1), strict=True):
        phoneme = np.searchsorted(ends, np.arange(17), side="right")
        np.testing.assert_array_equal(example, phoneme[None] <= phoneme[:, None])
    assert allowed[0, 0, :3].all() and not allowed[0, 2, 3:].any(), "the whole phoneme, and no later frame"
    # The mask differs from a causal mask over frames, as in language models.
    assert (allowed[0] != np.tril(np.ones((17, 17), bool))).any()


def test_sigma_of_wrong_shape_raises_an_error():
    with pytest.raises(ShapeError, match=r"sigma is \(4,\); it should be \(\) or \(1, 5\)"):
        upsampling_weights(jnp.asarray([WORKED]), jnp.ones(4), phone_count=5, frame_count=17, frames=17)
