"""Monotonic alignment search: golden cases, an enumeration of all alignments, ties, padding, and likelihoods."""

import itertools

import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice.errors import ShapeError
from jaxvoice.models.vits.alignment_search import alignment_search, expand, frame_tokens, log_likelihoods
from tests.reference import golden

search = jax.jit(lambda scores, tokens, frames: alignment_search(scores, token_count=tokens, frame_count=frames))


def path_of(durations, frames):
    """The matrix `(tokens, frames)` of the reference."""
    path, start = np.zeros((len(durations), frames), np.float32), 0
    for token, duration in enumerate(durations):
        path[token, start : start + duration] = 1
        start += duration
    return path


@pytest.mark.parametrize("number", range(7))
def test_paths_equal_those_of_the_release(number):
    case = golden.case("vits/maximum_path")
    scores, lengths = case[f"value_{number}"].swapaxes(1, 2), case[f"lengths_{number}"].astype(np.int32)
    durations = np.asarray(search(jnp.asarray(scores), lengths[:, 0], lengths[:, 1]))
    found = np.stack([path_of(row, scores.shape[1]) for row in durations])
    np.testing.assert_array_equal(found, case[f"path_{number}"])


def test_durations_give_the_path_of_the_release():
    case = golden.case("vits/maximum_path")
    durations, mask = jnp.asarray(case["gen_durations"].astype(np.int32)), case["gen_mask"]
    tokens = np.asarray(frame_tokens(durations, mask.shape[2]))
    spoken = np.arange(mask.shape[2]) < np.asarray(durations.sum(axis=1))[:, None]
    path = (tokens[:, None] == np.arange(mask.shape[1])[:, None]) * spoken[:, None] * mask
    np.testing.assert_array_equal(path, case["gen_path"])


def all_durations(tokens, frames):
    """Every way to divide `frames` among `tokens`, each at least one."""
    for cuts in itertools.combinations(range(1, frames), tokens - 1):
        yield np.diff([0, *cuts, frames])


def test_no_alignment_is_better():
    generator = np.random.default_rng(0)
    rows, frames, tokens = 1000, 8, 5
    scores = generator.normal(size=(rows, frames, tokens)).astype(np.float32)
    token_count = generator.integers(1, tokens + 1, rows).astype(np.int32)
    frame_count = np.maximum(token_count, generator.integers(1, frames + 1, rows)).astype(np.int32)
    found = np.asarray(search(jnp.asarray(scores), token_count, frame_count))
    assert (found.sum(axis=1) == frame_count).all()
    for row, (count, length) in enumerate(zip(token_count, frame_count, strict=True)):
        table = np.cumsum(scores[row].astype(np.float64), axis=0)

        def total(durations, table=table):
            ends = np.cumsum(durations)
            inside = table[ends - 1, np.arange(len(ends))]
            before = np.where(ends > durations, table[ends - durations - 1, np.arange(len(ends))], 0.0)
            return float((inside - before).sum())

        best = max(all_durations(count, length), key=total)
        np.testing.assert_array_equal(found[row, :count], best)
        assert not found[row, count:].any()


def reference(scores):
    """The search with the rule of the release for ties, in loops over one example `(frames, tokens)`."""
    frames, tokens = scores.shape
    best = np.full((frames, tokens), -np.inf)
    best[0, 0] = scores[0, 0]
    for frame in range(1, frames):
        for token in range(min(frame + 1, tokens)):
            moved = best[frame - 1, token - 1] if token else -np.inf
            best[frame, token] = max(best[frame - 1, token], moved) + scores[frame, token]
    durations, token = np.zeros(tokens, np.int32), tokens - 1
    for frame in range(frames - 1, -1, -1):
        durations[token] += 1
        if token and frame and (token == frame or best[frame - 1, token - 1] > best[frame - 1, token]):
            token -= 1
    return durations


def test_ties_stay_at_a_token():
    generator = np.random.default_rng(1)
    rows, frames, tokens = 300, 12, 6
    scores = generator.integers(0, 2, (rows, frames, tokens)).astype(np.float32)
    token_count = generator.integers(1, tokens + 1, rows).astype(np.int32)
    frame_count = generator.integers(tokens, frames + 1, rows).astype(np.int32)
    found = np.asarray(search(jnp.asarray(scores), token_count, frame_count))
    for row, (count, length) in enumerate(zip(token_count, frame_count, strict=True)):
        np.testing.assert_array_equal(found[row, :count], reference(scores[row, :length, :count]))


def test_batch_axes_and_padding_do_not_matter():
    generator = np.random.default_rng(2)
    scores = jnp.asarray(generator.normal(size=(2, 3, 9, 4)), jnp.float32)
    found = alignment_search(scores)
    assert found.shape == (2, 3, 4) and found.dtype == jnp.int32
    one = alignment_search(scores[1, 2])
    np.testing.assert_array_equal(found[1, 2], one)
    np.testing.assert_array_equal(jax.vmap(jax.vmap(alignment_search))(scores), found)
    padded = jnp.pad(scores, ((0, 0), (0, 0), (0, 5), (0, 3)), constant_values=1e4)
    count = jnp.full((2, 3), 4), jnp.full((2, 3), 9)
    np.testing.assert_array_equal(alignment_search(padded, token_count=count[0], frame_count=count[1])[..., :4], found)


def test_no_gradient_reaches_the_scores():
    gradient = jax.grad(lambda x: jnp.sum(expand(x, alignment_search(x), 5)))(jnp.ones((5, 5), jnp.float32))
    # Of the sum of expanded rows, each row counts as often as its duration; the search adds nothing.
    np.testing.assert_array_equal(gradient, np.ones((5, 5)))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (4, 2, 0)])
def test_scores_without_frames_or_tokens_are_rejected(shape):
    with pytest.raises(ShapeError, match="at least one each"):
        alignment_search(jnp.zeros(shape))


def test_likelihoods_are_those_of_torch():
    generator = np.random.default_rng(3)
    z, mean = (generator.normal(size=(2, n, 16)).astype(np.float32) for n in (7, 5))
    log_std = generator.normal(scale=0.5, size=(2, 5, 16)).astype(np.float32)
    found = log_likelihoods(*map(jnp.asarray, (z, mean, log_std)))
    normal = torch.distributions.Normal(torch.tensor(mean)[:, None], torch.tensor(log_std).exp()[:, None])
    expected = normal.log_prob(torch.tensor(z)[:, :, None]).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("inference", [False, True])
def test_rows_are_repeated_for_their_durations(inference):
    x = jnp.asarray(np.random.default_rng(4).normal(size=(2, 3, 4)), jnp.float32)
    durations = jnp.array([[2, 1, 3], [1, 1, 1]])
    found = np.asarray(expand(x, durations, 6, inference=inference))
    np.testing.assert_array_equal(found[0], np.repeat(x[0], [2, 1, 3], axis=0))
    np.testing.assert_array_equal(found[1, :3], x[1])
    np.testing.assert_array_equal(found[1, 3:], np.broadcast_to(x[1, 2], (3, 4)))
