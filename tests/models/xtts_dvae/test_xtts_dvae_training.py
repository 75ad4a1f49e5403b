"""The training of the DVAE of XTTS: code books compared with NumPy, lengths, steps, and resumed runs."""

import equinox as eqx
import jax
import numpy as np
from jax import numpy as jnp

from jaxvoice.models.xtts_dvae import DVAE, CodeBook, DVAEConfig

SMALL = DVAEConfig(codes=12, code_channels=6, hidden=4, blocks=1)


def test_update_and_restart_equal_numpy():
    random, count, channels = np.random.default_rng(0), 12, 6
    book = CodeBook(channels, count, key=jax.random.key(0))
    latents = random.normal(size=(3, 10, channels)).astype(np.float32)
    # A code book without a training step consists of vectors of the data, all of them different.
    first, dead = book.restarted(jnp.asarray(latents), below=0.1, key=jax.random.key(1))
    flat, embed = latents.reshape(-1, channels), np.asarray(first.embed).T
    rows = [int(np.flatnonzero((flat == vector).all(1))[0]) for vector in embed]
    assert int(dead) == count == len(set(rows))
    np.testing.assert_array_equal(first.cluster_size, np.full(count, 30 / count, np.float32))
    np.testing.assert_allclose(first.embed_avg, embed.T * (30 / count), rtol=1e-6)

    codes = np.argmin(((flat[:, None] - embed[None]) ** 2).sum(-1), 1)
    found = first(jnp.asarray(latents))
    np.testing.assert_array_equal(found.codes.reshape(-1), codes)
    np.testing.assert_allclose(found.commitment, np.mean((embed[codes] - flat) ** 2), rtol=1e-5)
    sizes, total = np.full(count, 30 / count), embed * (30 / count)
    for code in range(count):
        sizes[code] = 0.9 * sizes[code] + 0.1 * (codes == code).sum()
        total[code] = 0.9 * total[code] + 0.1 * flat[codes == code].sum(0)
    smoothed = (sizes + 1e-3) / (sizes.sum() + count * 1e-3) * sizes.sum()
    new = first.updated(jnp.asarray(latents), found.codes, decay=0.9, eps=1e-3)
    np.testing.assert_allclose(new.cluster_size, sizes, rtol=1e-5)
    np.testing.assert_allclose(new.embed_avg, total.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new.embed, (total / smoothed[:, None]).T, rtol=1e-4, atol=1e-6)

    # Only vectors whose clusters are small are replaced.
    few = eqx.tree_at(lambda b: b.cluster_size, new, new.cluster_size.at[jnp.asarray([2, 7])].set(0.2))
    again, dead = few.restarted(jnp.asarray(latents), below=0.1, key=jax.random.key(2))
    changed = np.flatnonzero(np.any(np.asarray(again.embed) != np.asarray(new.embed), 0))
    assert int(dead) == 2 and changed.tolist() == [2, 7]
    assert all((flat == vector).all(1).any() for vector in np.asarray(again.embed).T[changed])
    # More vectors than latents: they repeat.
    repeated, _ = book.restarted(jnp.asarray(latents[:1, :5]), below=0.1, key=jax.random.key(1))
    assert len(np.unique(np.asarray(repeated.embed), axis=1).T) == 5


def test_results_of_valid_frames_do_not_depend_on_padding():
    network = DVAE(SMALL, key=jax.random.key(0))
    mel = np.random.default_rng(0).normal(size=(2, 33, 80)).astype(np.float32)
    padded = np.pad(mel, ((0, 0), (0, 7), (0, 0)), constant_values=3.0)
    lengths = jnp.asarray([33, 22])
    found = network(jnp.asarray(padded), length=lengths)
    for row, frames in enumerate((33, 22)):
        alone = network(jnp.asarray(mel[row, :frames]))
        count = network.code_count(frames)
        np.testing.assert_array_equal(found.quantized.codes[row, :count], alone.quantized.codes)
        np.testing.assert_allclose(found.mel[row, :frames], alone.mel, atol=1e-5)
        decoded = network.decode(found.quantized.codes[row], length=count)
        np.testing.assert_allclose(decoded[:frames], alone.mel, atol=1e-5)
