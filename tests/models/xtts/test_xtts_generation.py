"""The generation of codes: the release's greedy codes, stops, batches, seeds and parts."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError, ShapeError
from jaxvoice.models.xtts import GPT, SamplingConfig, advance, begin, generate
from tests.models.xtts.released import GOLDEN_GPT, load
from tests.reference import golden

GREEDY = SamplingConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=5.0)
DRAWN = SamplingConfig(temperature=0.9, top_k=50, top_p=0.9, repetition_penalty=2.0)


@pytest.fixture(scope="module")
def case():
    return golden.case("xtts/generate")


@pytest.fixture(scope="module")
def gpt(case):
    return load(case, GPT, GOLDEN_GPT, "gpt.")


@pytest.fixture(scope="module")
def text(case):
    return np.pad(case["text"].astype(np.int32), ((0, 0), (1, 1)), constant_values=((0, 0), (261, 0)))


@eqx.filter_jit
def run(gpt, conditioning, text, keys=None, *, sampling=GREEDY, **options):
    return generate(gpt, conditioning, text, sampling, keys=keys, **options)


def test_greedy_codes_and_latents_equal_the_release(gpt, case, text):
    found = run(gpt, case["cond_latents"], text, max_codes=14)
    np.testing.assert_array_equal(found.codes, case["codes"])
    np.testing.assert_allclose(found.latents, case["latents"], atol=1e-5 * np.abs(case["latents"]).max())
    assert found.count == 14 and not found.stopped[0]


def test_latents_equal_those_of_a_second_pass(gpt, case, text):
    found = run(gpt, case["cond_latents"], text, jax.random.split(jax.random.key(0), 1), sampling=DRAWN, max_codes=20)
    second = eqx.filter_jit(lambda gpt, *args: gpt.latents(*args))(gpt, case["cond_latents"], text, found.codes)
    np.testing.assert_allclose(found.latents, second, atol=1e-5 * np.abs(second).max())


def test_texts_end_at_their_stop(case, text):
    """The fourth greedy code is the stop of another configuration."""
    stop = int(case["codes"][0, 3])
    other = load(case, GPT, dataclasses.replace(GOLDEN_GPT, stop_audio=stop), "gpt.")
    found = run(other, case["cond_latents"], text, max_codes=14)
    assert found.count == 3 and found.stopped[0]
    np.testing.assert_array_equal(found.codes[0], [*case["codes"][0, :3], *[stop] * 11])
    assert np.asarray(found.latents[0, 3]).any() and not np.asarray(found.latents[0, 4:]).any()


def test_texts_of_a_batch_do_not_depend_on_the_others(gpt, case, text):
    keys = jax.random.split(jax.random.key(1), 2)
    short = np.pad(text[:, :6], ((0, 0), (0, 5)))
    short[0, 5] = 0
    texts, conditioning = np.concatenate([text, short]), np.repeat(case["cond_latents"], 2, 0)
    counts = jnp.asarray([11, 6])
    both = run(gpt, conditioning, texts, keys, sampling=DRAWN, max_codes=12, text_count=counts)
    for row, count in enumerate((11, 6)):
        alone = run(
            gpt, conditioning[:1], texts[row : row + 1, :count], keys[row : row + 1], sampling=DRAWN, max_codes=12
        )
        np.testing.assert_array_equal(both.codes[row], alone.codes[0])
        np.testing.assert_allclose(both.latents[row], alone.latents[0], atol=1e-5 * np.abs(alone.latents).max())
    assert not np.array_equal(both.codes[0], both.codes[1])


def test_parts_equal_the_whole(gpt, case, text):
    keys = jax.random.split(jax.random.key(2), 1)
    whole = run(gpt, case["cond_latents"], text, keys, sampling=DRAWN, max_codes=12)
    state = eqx.filter_jit(lambda *args: begin(*args, DRAWN, max_codes=12))(gpt, case["cond_latents"], text)
    step = eqx.filter_jit(lambda gpt, state, keys: advance(gpt, state, DRAWN, 4, keys=keys))
    codes = []
    for _ in range(3):
        state, part = step(gpt, state, keys)
        codes.append(part.codes)
    np.testing.assert_array_equal(np.concatenate(codes, -1), whole.codes)


def test_impossible_lengths_raise_errors(gpt, case, text):
    for codes in (0, 603):
        with pytest.raises(ConfigError, match=f"max_codes is {codes}; it should be between 1 and 602"):
            begin(gpt, case["cond_latents"], text, GREEDY, max_codes=codes)
    with pytest.raises(ShapeError, match="has 405 text tokens, with start and stop; it should have at most 404"):
        begin(gpt, case["cond_latents"], np.zeros((1, 405), np.int32), GREEDY)
