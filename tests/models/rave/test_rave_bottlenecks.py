"""Quantiser, angles and principal components of RAVE, compared with the release and with closed forms."""

import itertools

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.rave import BottleneckConfig, LatentPCA, ResidualQuantizer, from_angles, to_angles
from jaxvoice.models.rave.quantizer import kmeans
from jaxvoice.weights import load_state, named_arrays
from tests.models.rave.released import channels_first, channels_last, largest_error
from tests.reference import golden

SMALL = BottleneckConfig("discrete", 8, num_quantizers=3, codebook_size=16)


@pytest.fixture(scope="module")
def case():
    return golden.case("rave/rvq")


@pytest.fixture(scope="module")
def quantizer_and_state(case):
    quantizer = ResidualQuantizer(SMALL)
    given = {name.removeprefix("encoder.rvq."): array for name, array in case.state_dict().items()}
    for i in range(3):
        given[f"layers.{i}._codebook.cluster_size"] = case[f"cluster_size_{i}"]
        given[f"layers.{i}._codebook.inited"] = np.ones(1, np.float32)
    return quantizer, load_state(quantizer.init_state(), given)


def test_quantizer_equals_the_release(case, quantizer_and_state):
    quantizer, state = quantizer_and_state
    x = channels_last(case["x"])
    quantized, same = quantizer(x, state, inference=True)
    assert largest_error(channels_first(quantized.vectors), case["quantized"]) < 1e-5
    np.testing.assert_array_equal(channels_first(quantized.codes), case["codes"])
    assert eqx.tree_equal(same, state)
    decoded = quantizer.decode(quantized.codes, state)
    assert largest_error(channels_first(decoded), case["decoded"]) < 1e-5
    first = quantizer.decode(quantized.codes[..., :1], state)
    np.testing.assert_array_equal(first, state.codebooks[0].embed[quantized.codes[..., 0]])


def test_training_of_the_quantizer_equals_the_release(case, quantizer_and_state, key):
    quantizer, state = quantizer_and_state
    x, probe = channels_last(case["x"]), channels_last(case["probe"])

    @eqx.filter_jit
    def train(x, state):
        result, pull, state = jax.vjp(lambda x: quantizer(x, state, key=key), x, has_aux=True)
        zeros = jax.tree.map(lambda a: np.zeros(a.shape, jax.dtypes.float0), result.codes)
        of_probe = pull(result._replace(vectors=probe, codes=zeros, commitment=jnp.zeros(())))[0]
        of_loss = pull(result._replace(vectors=jnp.zeros_like(probe), codes=zeros, commitment=jnp.ones(())))[0]
        return result, of_probe, of_loss, state

    result, of_probe, of_loss, after = train(x, state)
    assert largest_error(channels_first(result.vectors), case["train_quantized"]) < 1e-5
    assert largest_error(result.commitment, case["train_loss"]) < 1e-5
    assert largest_error(channels_first(of_probe), case["grad_of_probe"]) < 1e-5
    assert largest_error(channels_first(of_loss), case["grad_of_loss"]) < 1e-5
    for i, codebook in enumerate(after.codebooks):
        for name in ("embed", "embed_avg", "cluster_size"):
            assert largest_error(getattr(codebook, name), case[f"ema_{name}_{i}"]) < 1e-5


def test_codebooks_start_from_kmeans_of_the_first_batch(key):
    """With as many well separated clusters as codes, the first codebook is their means, and codes everything."""
    rng = np.random.default_rng(0)
    config = BottleneckConfig("discrete", 4, num_quantizers=2, codebook_size=3)
    centres = np.array([[20, 0, 0, 0], [0, 20, 0, 0], [0, 0, 20, 0]])
    x = np.repeat(centres, 16, 0) + 0.1 * rng.standard_normal((48, 4))
    quantizer = ResidualQuantizer(config)
    for seed in range(20):  # Lloyd's algorithm stays at a local minimum if two means start in one cluster
        result, state = quantizer(jnp.asarray(x, jnp.float32), quantizer.init_state(), key=jax.random.key(seed))
        if len(np.unique(result.codes[:, 0])) == 3:
            break
    assert all(float(codebook.inited[0]) == 1 for codebook in state.codebooks)
    rows = np.argsort(np.argmax(np.asarray(state.codebooks[0].embed_avg), 1))
    sizes = np.asarray(state.codebooks[0].cluster_size)[rows]
    np.testing.assert_allclose(sizes, 16, rtol=1e-5)
    means = x.reshape(3, 16, 4).mean(1)
    np.testing.assert_allclose(np.asarray(state.codebooks[0].embed)[rows], means, rtol=1e-3, atol=1e-3)


def test_kmeans_reduces_the_distance_to_the_means_at_every_iteration(key):
    vectors = jax.random.normal(key, (200, 3))

    def distance(iterations: int) -> float:
        means, sizes = kmeans(vectors, 7, iterations, key=key)
        assert float(sizes.sum()) == 200
        return float(jnp.mean(jnp.min(jnp.sum(jnp.square(vectors[:, None] - means[None]), -1), 1)))

    distances = [distance(n) for n in (1, 2, 4, 16)]
    assert all(later < earlier for earlier, later in itertools.pairwise(distances))


def test_unused_codes_are_replaced_by_vectors_of_the_batch(key):
    config = BottleneckConfig("discrete", 2, num_quantizers=1, codebook_size=4)
    quantizer = ResidualQuantizer(config)
    used = np.array([5.0, 5.0, 0.5, 1.9], np.float32)
    embed = np.array([[0, 0], [1, 1], [100, 100], [200, 200]], np.float32)
    given = {"inited": np.ones(1), "cluster_size": used, "embed": embed, "embed_avg": embed * used[:, None]}
    state = load_state(quantizer.init_state(), {f"layers.0._codebook.{name}": a for name, a in given.items()})
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 2, (30, 2)), jnp.float32)
    _, after = quantizer(x, state, key=key)
    codebook = after.codebooks[0]
    rows = {tuple(row) for row in np.asarray(x).tolist()}
    assert [tuple(row) in rows for row in np.asarray(codebook.embed).tolist()] == [False, False, True, True]
    np.testing.assert_allclose(codebook.cluster_size[2:], 2)
    np.testing.assert_allclose(codebook.embed_avg[2:], 2 * codebook.embed[2:])


def test_quantizer_needs_a_key_in_training_and_known_codebooks(quantizer_and_state):
    quantizer, state = quantizer_and_state
    with pytest.raises(ConfigError, match="key is None"):
        quantizer(jnp.zeros((3, 8)), state)
    with pytest.raises(ShapeError, match="at most 3 quantizers"):
        quantizer.decode(jnp.zeros((2, 4), jnp.int32), state)
    assert set(named_arrays(state)) >= {"layers.2._codebook.embed_avg"} and not named_arrays(quantizer)


def test_angles_are_spherical_coordinates():
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    x, y, z = unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    angles = to_angles(jnp.asarray(unit.T))
    np.testing.assert_allclose(angles[:, 0], 2 * np.arccos(x) / np.pi - 1, atol=1e-5)
    np.testing.assert_allclose(angles[:, 1], (np.arctan2(z, y) % (2 * np.pi)) / np.pi - 1, atol=1e-5)


def test_angles_give_the_vectors_again_and_wrap():
    vectors = np.random.default_rng(1).standard_normal((2, 40, 16)).astype(np.float32)
    unit = jnp.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
    angles = to_angles(unit)
    assert angles.shape == (2, 40, 15) and float(jnp.abs(angles).max()) <= 1
    np.testing.assert_allclose(from_angles(angles), unit, atol=2e-5)
    np.testing.assert_allclose(from_angles(angles + 2), unit, atol=2e-5)
    np.testing.assert_allclose(from_angles(angles - 4), unit, atol=2e-5)
    with pytest.raises(ShapeError, match="2 or more numbers"):
        to_angles(jnp.ones((3, 1)))


@pytest.fixture(scope="module")
def latents():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    return (rng.standard_normal((4, 100, 6)) * [5, 3, 1, 0.5, 0.1, 0.02]) @ basis + np.arange(6)


def test_principal_components_equal_the_eigenvectors_of_the_covariance(latents):
    pca = LatentPCA.fit(latents)
    values, vectors = np.linalg.eigh(np.cov(latents.reshape(-1, 6).T))
    values, vectors = values[::-1], vectors.T[::-1]
    np.testing.assert_allclose(np.abs(np.sum(pca.components * vectors, 1)), 1, atol=1e-5)
    np.testing.assert_allclose(pca.fidelity, np.cumsum(values) / values.sum(), atol=1e-6)
    np.testing.assert_allclose(pca.mean, latents.reshape(-1, 6).mean(0), rtol=1e-5)
    z = jnp.asarray(latents, jnp.float32)
    assert np.allclose(jnp.std(pca.reduce(z).reshape(-1, 6), 0, ddof=1) ** 2, values, rtol=1e-3)


def test_all_components_give_the_latents_again_and_few_their_projection(latents, key):
    pca, z = LatentPCA.fit(latents), jnp.asarray(latents, jnp.float32)
    np.testing.assert_allclose(pca.restore(pca.reduce(z)), z, atol=1e-4)
    projected = pca.restore(pca.reduce(z, 2))
    error = np.sum(np.square(projected - z)) / np.sum(np.square(z - pca.mean[None, None]))
    assert abs(error - (1 - float(pca.fidelity[1]))) < 1e-4
    drawn = pca.reduce(pca.restore(pca.reduce(z, 2), key=key))[..., 2:]
    assert abs(float(jnp.std(drawn)) - 1) < 0.1 and abs(float(jnp.mean(drawn))) < 0.1
    with pytest.raises(ShapeError, match="number of components is 7; it should be from 1 to 6"):
        pca.reduce(z, 7)


@pytest.mark.parametrize(
    ("fidelity", "size", "export_size"), [(0.3, 1, 1), (0.55, 2, 1), (0.75, 3, 2), (0.85, 5, 4), (0.95, 6, 8)]
)
def test_number_of_components_for_a_share_of_the_variance(fidelity, size, export_size):
    shares = jnp.asarray([0.5, 0.7, 0.8, 0.84, 0.9, 1.0, 1.0, 1.0])
    pca = LatentPCA(jnp.eye(8), jnp.zeros(8), shares)
    assert (pca.size_for(fidelity), pca.export_size_for(fidelity)) == (size, export_size)


def test_size_of_exports_is_at_most_that_of_all_latents():
    """The next power of two would be 8."""
    pca = LatentPCA(jnp.eye(6), jnp.zeros(6), jnp.asarray([0.1, 0.2, 0.3, 0.4, 0.5, 1.0]))
    assert pca.export_size_for(0.7) == 6 and pca.reduce(jnp.ones(6), pca.export_size_for(0.7)).shape == (6,)


def test_all_components_are_kept_if_none_of_the_shares_is_large_enough():
    pca = LatentPCA(jnp.eye(3), jnp.zeros(3), jnp.asarray([0.5, 0.9, 0.999999]))
    assert (pca.size_for(0.9999999), pca.size_for(0.9999)) == (3, 3)
    assert LatentPCA(jnp.eye(2), jnp.zeros(2), jnp.asarray([0.5, 1.0])).size_for(1 - 1e-12) == 2


def test_principal_components_need_frames_that_differ():
    with pytest.raises(ShapeError, match="5 frames of 6 latents; there should be at least 6"):
        LatentPCA.fit(np.random.default_rng(0).standard_normal((5, 6)))
    with pytest.raises(ShapeError, match="All frames of latents are equal"):
        LatentPCA.fit(np.ones((10, 6)))
    with pytest.raises(ConfigError, match=r"fidelity is 1\.0"):
        LatentPCA(jnp.eye(2), jnp.zeros(2), jnp.ones(2)).size_for(1.0)
