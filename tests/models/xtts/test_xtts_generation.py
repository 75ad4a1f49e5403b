"""Codes and the vectors of references: the release's values, stops, batches, seeds and parts."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import CheckpointError, ConfigError, ShapeError
from jaxvoice.models.speaker_encoder import preset as speaker_preset
from jaxvoice.models.speaker_encoder.front_end import front_end as speaker_front_end
from jaxvoice.models.xtts import (
    GPT,
    HiFiDecoder,
    SamplingConfig,
    advance,
    begin,
    bytes_per_code,
    freeze_projections,
    generate,
    preset,
    resized,
    sampling_values,
    with_precision,
)
from jaxvoice.models.xtts.references import condition_on_parts, reference_parts, speaker_audio
from jaxvoice.weights import load_state, named_arrays
from tests.models.xtts.released import GOLDEN_GPT, assert_close, load
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


def test_one_program_serves_all_values_of_sampling_and_grows_its_cache(gpt, case, text):
    """The program of `DRAWN`, compiled for its values, has the same codes."""
    keys = jax.random.split(jax.random.key(3), 1)
    start = eqx.filter_jit(lambda gpt, *args, values: begin(gpt, *args, values, max_codes=12, positions=60))
    step = eqx.filter_jit(lambda gpt, state, values, keys: advance(gpt, state, values, 6, keys=keys))
    greedy = SamplingConfig(temperature=1.0, top_k=1, top_p=0.5, repetition_penalty=5.0)
    for sampling, expected in (
        (DRAWN, run(gpt, case["cond_latents"], text, keys, sampling=DRAWN, max_codes=12).codes),
        (greedy, case["codes"][:, :12]),
    ):
        values = sampling_values(sampling)
        state = start(gpt, case["cond_latents"], text, values=values)
        state, first = step(gpt, state, values, keys)
        state, second = step(gpt, resized(state, 80), values, keys)
        np.testing.assert_array_equal(np.concatenate([first.codes, second.codes], -1), expected)


def test_frozen_projections_compute_the_codes_of_the_release(gpt, case, text):
    frozen = freeze_projections(gpt)
    assert frozen.gpt.h[1].attn.c_attn.kernel.shape == (768, 256)
    assert bytes_per_code(frozen, 50) == bytes_per_code(gpt, 50)
    found = run(frozen, case["cond_latents"], text, max_codes=14)
    np.testing.assert_array_equal(found.codes, case["codes"])
    np.testing.assert_allclose(found.latents, case["latents"], atol=1e-5 * np.abs(case["latents"]).max())
    with pytest.raises(ShapeError, match="channels"):
        frozen.gpt.h[0].mlp.c_fc(jnp.zeros((3, 7)))
    with pytest.raises(ConfigError, match="projections of the network are frozen"):
        with_precision(frozen, "bfloat16")
    with pytest.raises(CheckpointError, match=r"c_attn\.kernel"):
        load_state(gpt, named_arrays(frozen))
    narrow = with_precision(gpt, "bfloat16")
    assert freeze_projections(narrow).gpt.h[0].mlp.c_fc.weight.shape == narrow.gpt.h[0].mlp.c_fc.weight.shape


def test_codes_of_weights_in_bfloat16(gpt, case, text):
    converted = with_precision(gpt, "bfloat16")
    weights = bytes_per_code(gpt, 50), bytes_per_code(converted, 50)
    matrices = 12 * 256**2 * 2
    assert weights[0].weights - weights[1].weights == 2 * matrices
    others = 1026 * 257 + 2 * (13 + 4) * 256 - 2 * 4 * 256 + 4 * 256
    assert weights[0] == (4 * (matrices + others), 50 * 2 * 2 * 256 * 4)
    assert with_precision(converted, "bfloat16").gpt.h[0].mlp.c_fc.weight.dtype == jnp.bfloat16
    found = run(converted, case["cond_latents"], text, max_codes=3)
    np.testing.assert_array_equal(found.codes, case["codes"][:, :3])
    assert found.latents.dtype == jnp.float32
    difference = np.abs(found.latents[:, :3] - case["latents"][:, :3]).max() / np.abs(case["latents"]).max()
    assert 1e-4 < difference < 0.03
    shapes = with_precision(eqx.filter_eval_shape(GPT, GOLDEN_GPT, key=jax.random.key(0)), "bfloat16")
    assert shapes.gpt.h[1].attn.c_attn.weight == jax.ShapeDtypeStruct((256, 768), jnp.bfloat16)
    with pytest.raises(ConfigError, match="precision is 'float16'; it should be float32 or bfloat16"):
        with_precision(gpt, "float16")


def test_impossible_lengths_raise_errors(gpt, case, text):
    for codes in (0, 603):
        with pytest.raises(ConfigError, match=f"max_codes is {codes}; it should be between 1 and 602"):
            begin(gpt, case["cond_latents"], text, GREEDY, max_codes=codes)
    with pytest.raises(ShapeError, match="has 405 text tokens, with start and stop; it should have at most 404"):
        begin(gpt, case["cond_latents"], np.zeros((1, 405), np.int32), GREEDY)


@pytest.mark.slow
def test_vectors_of_references_equal_the_release():
    case = golden.case("xtts/cloning")
    state = case.state_dict(strip="gpt.")
    skeleton = eqx.filter_eval_shape(GPT, dataclasses.replace(GOLDEN_GPT, layers=1), key=jax.random.key(0))
    parts = {}
    for name in ("conditioning_encoder", "conditioning_perceiver"):
        below = {path.removeprefix(f"{name}."): value for path, value in state.items() if path.startswith(name)}
        parts[name] = load_state(getattr(skeleton, name), below)
    gpt = eqx.tree_at(lambda gpt: (gpt.conditioning_encoder, gpt.conditioning_perceiver), skeleton, (*parts.values(),))
    audio, rate = jnp.asarray(case["wav"][0]), case.meta["config"]["sample_rate"]
    places = reference_parts(len(audio), rate, seconds=30, part=case.meta["config"]["chunk_length"])
    assert places == [(0, rate), (rate, 2 * rate)]
    found = condition_on_parts(gpt, [audio[start:end] for start, end in places], jnp.asarray(case["mel_stats"]))
    assert_close(found[None], case, "gpt_cond_latent")
    resampled = speaker_audio(audio, rate)
    np.testing.assert_allclose(resampled[:3000], case["wav_16k_first"][0], atol=1e-5)
    encoder = eqx.filter_eval_shape(HiFiDecoder, preset("v2"), key=jax.random.key(0)).speaker_encoder
    prefix = "hifigan_decoder.speaker_encoder."
    weights = {path.removeprefix(prefix): value for path, value in state.items() if path.startswith(prefix)}
    front_end = named_arrays(speaker_front_end(speaker_preset("hasp")))  # the case has no windows and filters
    weights |= {f"torch_spec.{path}": value for path, value in front_end.items()}
    embedding = eqx.filter_jit(load_state(encoder, weights))(resampled)
    assert_close(embedding[None, :, None], case, "speaker_embedding")


def test_short_last_parts_of_references_are_left_out():
    assert reference_parts(2500, 1000, seconds=30, part=1) == [(0, 1000), (1000, 2000), (2000, 2500)]
    assert reference_parts(2300, 1000, seconds=30, part=1) == [(0, 1000), (1000, 2000)]
    assert reference_parts(9000, 1000, seconds=2, part=6) == [(0, 2000)]
    assert reference_parts(200, 1000, seconds=30, part=1) == [(0, 200)]
