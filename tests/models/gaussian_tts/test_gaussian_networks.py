"""The acoustic model: parameter counts, independence of padding and order, precision and errors."""

import dataclasses
import re

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.gaussian_tts import (
    AcousticModel,
    BatchNormStates,
    Block,
    ConvRes,
    DecoderConfig,
    EncoderConfig,
    GaussianTTS,
    GaussianTTSConfig,
)
from jaxvoice.training.training_state import to_compute
from jaxvoice.weights.array_names import count_parameters, named_arrays
from tests.models.gaussian_tts.small import CODES, SMALL, changed, filled, networks, padded

FRAMES = 48


@eqx.filter_jit
def run(model: AcousticModel, given, state: BatchNormStates, frames=FRAMES, inference=False, key=None):
    hidden, state = model.encode(given.phonemes, state, phone_count=given.phone_count, inference=inference, key=key)
    counts = {"phone_count": given.phone_count, "frame_count": given.frame_count, "frames": frames}
    return hidden, model.decode(hidden, given.durations, state, **counts, inference=inference, key=key)


def assert_same_results(left, right, given, **tolerance) -> None:
    """Assert that valid phonemes and frames, and the running statistics, agree."""
    for mine, yours, counts in (
        (left[0], right[0], given.phone_count),
        (left[1].decoder_mel, right[1].decoder_mel, given.frame_count),
        (left[1].mel, right[1].mel, given.frame_count),
    ):
        for a, b, count in zip(*map(np.asarray, (mine, yours, counts)), strict=True):
            np.testing.assert_allclose(a[:count], b[:count], **tolerance)
    for a, b in zip(jax.tree.leaves(left[1].state), jax.tree.leaves(right[1].state), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.fixture(scope="module")
def small() -> AcousticModel:
    return networks().acoustic


@pytest.fixture(scope="module")
def trained(small):
    """The results for the padded batch in training mode."""
    return run(small, padded(), small.init_state())


def full_size(**parts) -> GaussianTTS:
    config = changed(GaussianTTSConfig(codes=tuple(f"P{i}" for i in range(54))), **parts)
    return eqx.filter_eval_shape(GaussianTTS, config, key=jax.random.key(0))


def test_parameter_counts_equal_the_published_ones():
    model = full_size(decoder={"max_frames": 1000}).acoustic
    assert {count_parameters(block.attention) for block in model.encoder.blocks} == {789_760}
    assert {count_parameters(block) for block in model.postnet.blocks} == {394_240}
    assert count_parameters(model.decoder.blocks[2].conv) == 394_240
    # Embedding of 54 codes and padding, 150 positions, three blocks.
    assert count_parameters(model.encoder) == (55 + 150) * 256 + 3 * (789_760 + 394_240) == 3_604_480
    decoder = sum(map(count_parameters, (model.decoder, model.linear, model.postnet)))
    assert decoder == 1000 * 256 + 3 * (789_760 + 394_240) + 5 * 394_240 + 2 * 80 * 257 == 5_820_320
    assert count_parameters(model) == 3_604_480 + 5_820_320 + 1


def test_parameter_count_with_wide_attention():
    """A linear map 256 to 1024, a transformer layer there, a residual convolution 1024 to 256: 49 million in six."""
    model = full_size(encoder={"attn_dim": 1024}, decoder={"attn_dim": 1024}).acoustic
    sizes = [count_parameters(block) for block in (*model.encoder.blocks, *model.decoder.blocks)]
    assert sum(sizes) == 48_832_512


def test_decoder_has_1024_positions_by_default():
    assert full_size().acoustic.decoder.positions.shape == (1024, 256)
    assert full_size().acoustic.encoder.embedding.shape == (55, 256)


@pytest.mark.parametrize(("phones", "frames"), [(17, FRAMES), (10, FRAMES + 29)])
def test_valid_results_and_statistics_are_independent_of_padding(small, trained, phones, frames):
    given = padded(phones, garbage=True)
    assert_same_results(trained, run(small, given, small.init_state(), frames), padded(), atol=5e-5)


def test_unmasked_batch_norm_depends_on_padding(small, trained):
    """`batch_norm_mask=False` includes padding in the statistics, which the test above detects."""
    model = networks(dataclasses.replace(SMALL, batch_norm_mask=False)).acoustic
    with pytest.raises(AssertionError):
        assert_same_results(trained, run(model, padded(), model.init_state()), padded(), atol=1e-3)


def test_valid_frames_depend_on_the_phoneme_count(small, trained):
    """Without the phoneme count, attention, convolutions and statistics include padding."""
    given = padded(17, garbage=True)
    counted = given._replace(phone_count=jnp.full(3, 17, jnp.int32))
    hidden, _ = run(small, counted, small.init_state())
    assert np.abs(np.asarray(hidden)[0, :10] - np.asarray(trained[0])[0, :10]).max() > 1e-2


def test_unknown_ids_in_padding_do_not_propagate(small, trained):
    """The embedding of an unknown id is NaN. An attention weight of zero does not remove NaN."""
    given = padded(17)
    valid = np.arange(17) < np.asarray(given.phone_count)[:, None]
    beyond = given._replace(phonemes=jnp.asarray(np.where(valid, given.phonemes, 99).astype(np.int32)))
    assert_same_results(trained, run(small, beyond, small.init_state()), padded(), atol=5e-5)


def test_scalar_phone_count_applies_to_the_batch(small):
    given = padded()
    same_counts = {"phone_count": jnp.full(3, 9), "frame_count": jnp.full(3, 40)}
    call = lambda **counts: small(  # noqa: E731
        given.phonemes, given.durations, small.init_state(), **counts, frames=FRAMES, inference=True
    )
    expected, found = call(**same_counts), call(phone_count=9, frame_count=40)
    np.testing.assert_array_equal(found.mel, expected.mel)
    assert np.any(expected.mel[:, :40]) and not np.any(expected.mel[:, 40:])


def test_networks_accept_batches_of_size_0():
    model = networks()
    empty = jax.tree.map(lambda array: jnp.asarray(array)[:0], padded())
    counts = {"phone_count": empty.phone_count, "frame_count": empty.frame_count, "frames": FRAMES}
    call = eqx.filter_jit(lambda model, *given: model(*given, **counts))
    decoded, durations = call(model, empty.phonemes, empty.durations, model.init_state())
    assert decoded.mel.shape == (0, FRAMES, 8) and durations.shape == (0, 10)


def test_encoder_and_decoder_use_separate_keys(key):
    """A call splits its key into one for `encode` and one for `decode`."""
    parts = {"encoder": {"dropout": 0.5}, "decoder": {"dropout": 0.5}}
    model, given = networks(changed(**parts)).acoustic, padded()
    counts = {"phone_count": given.phone_count, "frame_count": given.frame_count, "frames": FRAMES}
    state = model.init_state()

    @eqx.filter_jit
    def in_parts(encoder_key, decoder_key):
        hidden, new = model.encode(given.phonemes, state, phone_count=given.phone_count, key=encoder_key)
        return model.decode(hidden, given.durations, new, **counts, key=decoder_key)

    together = eqx.filter_jit(lambda key: model(given.phonemes, given.durations, state, **counts, key=key))(key)
    first, second = jax.random.split(key)
    np.testing.assert_allclose(together.mel, in_parts(first, second).mel, atol=1e-5)
    assert np.abs(together.mel - in_parts(first, first).mel).max() > 1e-2
    assert np.abs(together.mel - in_parts(second, second).mel).max() > 1e-2


def test_results_follow_the_order_of_the_batch(small, trained):
    order = np.array([2, 0, 1])
    given = jax.tree.map(lambda array: jnp.asarray(np.asarray(array)[order]), padded())
    hidden, decoded = run(small, given, small.init_state())
    np.testing.assert_allclose(hidden, np.asarray(trained[0])[order], atol=5e-5)
    np.testing.assert_allclose(decoded.mel, np.asarray(trained[1].mel)[order], atol=5e-5)
    for a, b in zip(jax.tree.leaves(decoded.state), jax.tree.leaves(trained[1].state), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


def test_results_are_zero_in_padding(trained):
    given, (hidden, decoded) = padded(), trained
    for output, counts in ((hidden, given.phone_count), (decoded.decoder_mel, given.frame_count)):
        for example, count in zip(np.asarray(output), counts, strict=True):
            assert example[:count].any(axis=-1).all() and not example[count:].any()
    assert decoded.mel.shape == (3, FRAMES, 8) and decoded.weights.shape == (3, FRAMES, 10)


def test_single_example_equals_its_row_in_a_batch(small):
    given = padded()
    _, together = run(small, given, small.init_state(), inference=True)
    alone = jax.tree.map(lambda array: jnp.asarray(np.asarray(array)[2:, :1] if array.ndim > 1 else array[2:]), given)
    hidden, decoded = run(small, alone, small.init_state(), int(given.frame_count[2]), inference=True)
    assert hidden.shape == (1, 1, 16)
    np.testing.assert_allclose(decoded.mel[0], together.mel[2, : decoded.mel.shape[1]], atol=1e-5)


def test_inference_uses_running_statistics_unchanged(small, trained):
    state = trained[1].state
    hidden, decoded = run(small, padded(), state, inference=True)
    for a, b in zip(jax.tree.leaves(decoded.state), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(np.asarray(hidden) - np.asarray(trained[0])).max() > 1e-2
    assert all(int(norm.num_batches_tracked) == 1 for norm in (*state.encoder, *state.decoder, *state.postnet))


def test_convolution_ignores_padding():
    block = filled(eqx.filter_eval_shape(lambda: ConvRes(4, 6, key=jax.random.key(0))))
    call = eqx.filter_jit(lambda x, mask: block(x, block.norm.init_state(), mask=mask))
    x = np.random.default_rng(0).standard_normal((2, 9, 4)).astype(np.float32)
    mask = jnp.asarray(np.arange(9) < np.array([[9], [5]]))
    garbage = jnp.asarray(np.where(mask[..., None], x, np.nan))
    (clean, state), (dirty, dirty_state) = call(jnp.asarray(x), mask), call(garbage, mask)
    np.testing.assert_array_equal(clean, dirty)
    assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(dirty_state)))
    assert not np.asarray(clean)[1, 5:].any()
    unmasked, _ = call(jnp.asarray(x), jnp.ones((2, 9), bool))
    assert np.abs(np.asarray(unmasked) - np.asarray(clean))[1, :5].max() > 1e-2


@pytest.mark.parametrize(("mask", "seen"), [("none", True), ("block_causal", False)])
def test_block_causal_decoder_ignores_later_phonemes(mask, seen):
    """Convolutions still depend on later frames: two per layer, six for a block and a post-net of two layers."""
    model = networks(changed(decoder={"mask": mask})).acoustic
    given = padded()
    hidden, decoded = run(model, given, model.init_state(), inference=True)
    start = int(np.asarray(given.durations)[0, :9].sum())

    @eqx.filter_jit
    def decode(hidden):
        counts = {"phone_count": given.phone_count, "frame_count": given.frame_count, "frames": FRAMES}
        return model.decode(hidden, given.durations, model.init_state(), **counts, inference=True)

    # Gaussian weights vanish within a dozen frames.
    other = decode(hidden.at[0, 9].add(5.0)).mel
    change = np.abs(np.asarray(other) - np.asarray(decoded.mel))[0]
    early = change[: start - 16]
    assert early.shape[0] > 8
    assert (early.max() > 1e-3) == seen
    assert change[start:].max() > 1e-2


def test_encoder_attends_to_later_phonemes():
    model = networks(changed(decoder={"mask": "block_causal"})).acoustic
    given = padded()
    encode = eqx.filter_jit(
        lambda ids: model.encode(ids, model.init_state(), phone_count=given.phone_count, inference=True)[0]
    )
    other = np.array(given.phonemes)
    other[0, 9] = other[0, 9] % 12 + 1
    change = np.asarray(encode(jnp.asarray(other))) - np.asarray(encode(given.phonemes))
    # The convolution spans two positions on each side, so only attention connects the first and the last position.
    assert np.abs(change[0, 0]).max() > 1e-4 and not change[1:].any()


def test_postnet_correction_starts_at_zero_and_has_gradients(small, key):
    @eqx.filter_jit
    def begin(key):
        model = AcousticModel(SMALL, key=key)
        return model.encoder.embedding, (model.encoder.positions, model.decoder.positions), model.postnet.linear

    embedding, positions, linear = begin(key)
    assert not np.any(embedding[0]) and 0.8 < np.std(embedding[1:]) < 1.2
    assert all(0.018 < np.std(table) < 0.022 for table in positions)
    model, given = eqx.tree_at(lambda m: m.postnet.linear, small, linear), padded()

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradients(model):
        _, decoded = run(model, given, model.init_state())
        return jnp.mean(jnp.square(decoded.mel - 1.0)), decoded

    gradient, decoded = gradients(model)
    np.testing.assert_array_equal(decoded.decoder_mel, decoded.mel)
    silent = {name for name, leaf in named_arrays(gradient).items() if not np.any(leaf)}
    # In the first step, the layer of zeros passes no gradient to the layers before it.
    assert silent == {name for name in named_arrays(gradient) if name.startswith("postnet.blocks")}


def test_dropout_requires_a_key_and_skips_the_postnet(key):
    config = changed(encoder={"dropout": 0.15}, decoder={"dropout": 0.1})
    model = networks(config).acoustic
    first, again = (run(model, padded(), model.init_state(), key=k)[1] for k in (key, jax.random.key(7)))
    assert np.abs(np.asarray(first.decoder_mel) - np.asarray(again.decoder_mel)).max() > 1e-3
    assert {block.dropout for block in model.postnet.blocks} == {0.0}
    with pytest.raises(ConfigError, match="Pass key="):
        run(model, padded(), model.init_state())


def test_bfloat16_keeps_softmax_norms_and_weights_in_float32(small):
    given, state = padded(), small.init_state()
    low = to_compute(small, "bfloat16")
    _, decoded = run(low, given, state)
    assert decoded.mel.dtype == jnp.bfloat16 and decoded.weights.dtype == jnp.float32
    assert {leaf.dtype for norm in decoded.state.decoder for leaf in (norm.running_mean, norm.running_var)} == {
        jnp.dtype("float32")
    }
    exact = np.asarray(run(small, given, state)[1].decoder_mel)
    assert np.abs(np.asarray(decoded.decoder_mel, np.float32) - exact).mean() < 0.05 * np.abs(exact).mean()
    program = str(jax.make_jaxpr(lambda given, state: run(low, given, state))(given, state))
    assert re.search(r"bf16\[[\d,]*\] = (conv|dot_general)", program)
    assert not re.search(r"bf16\[[\d,]*\] = (exp|rsqrt|log|cumsum|div)\b", program)


def test_sequences_beyond_the_positions_raise_an_error(small):
    given = padded()
    ids = jnp.ones((1, 25), jnp.int32)
    with pytest.raises(ShapeError, match=r"number of phonemes is 25.*at most 24.*larger encoder\.max_phones"):
        small.encode(ids, small.init_state(), phone_count=jnp.asarray([3]), inference=True)
    with pytest.raises(ShapeError, match=r"number of frames is 97.*at most 96.*larger decoder\.max_frames"):
        run(small, given, small.init_state(), 97)


def test_unknown_ids_give_nan(small):
    given = padded()
    ids = np.array(given.phonemes)
    ids[0, 0] = len(CODES) + 1
    strange = given._replace(phonemes=jnp.asarray(ids))
    hidden, _ = run(small, strange, small.init_state(), inference=True)
    assert np.isnan(np.asarray(hidden)[0]).any() and np.isfinite(np.asarray(hidden)[1]).all()


@pytest.mark.parametrize("config", [EncoderConfig(attn_dim=24, norm="pre"), DecoderConfig(norm="none")])
def test_blocks_of_any_width_and_norm_keep_the_shape(config):
    block = filled(eqx.filter_eval_shape(lambda: Block(16, config, key=jax.random.key(0))))
    x, mask = jnp.ones((2, 5, 16)), jnp.ones((2, 5), bool)
    y, _ = eqx.filter_jit(lambda x: block(x, block.conv.norm.init_state(), mask=mask, inference=True))(x)
    assert y.shape == x.shape and np.isfinite(y).all()
    assert (block.widen is None) == (config.attn_dim is None)
