"""The networks of XTTS compared with golden values of coqui's implementation."""

import dataclasses
import math

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.errors import ConfigError
from jaxvoice.models.xtts.config import (
    FRAMES_MEL,
    PERCEIVER_MEL,
    ConditioningConfig,
    GPTConfig,
    SamplingConfig,
    preset,
)
from jaxvoice.models.xtts.decoder import HiFiDecoder
from jaxvoice.models.xtts.gpt import GPT, masked_cross_entropy, training_targets
from jaxvoice.models.xtts.network import XTTS
from jaxvoice.models.xtts.sampling import add_seen, draw, initial_seen, remaining_scores
from jaxvoice.models.xtts_dvae import DVAE_MEL, normalized_log_mel
from jaxvoice.weights import load_state, named_arrays
from tests.models.xtts.released import GOLDEN_GPT, assert_close, last, load, released_shapes
from tests.reference import golden


@pytest.fixture(scope="module")
def gpt():
    return load(golden.case("xtts/gpt"), GPT, GOLDEN_GPT, "gpt.")


@pytest.mark.parametrize(
    ("name", "config"), [("mel_dvae", DVAE_MEL), ("mel_cond_v2", PERCEIVER_MEL), ("mel_cond_v1", FRAMES_MEL)]
)
def test_mels_equal_the_release(name, config):
    case = golden.case("xtts/mels")
    assert_close(last(normalized_log_mel(case["wav"], jnp.asarray(case["mel_stats"]), config)), case, name)


@pytest.mark.slow
def test_conditioning_equals_the_release():
    case = golden.case("xtts/conditioning")
    config = GPTConfig(layers=1, text_ids=300)
    skeleton = eqx.filter_eval_shape(GPT, config, key=jax.random.key(0))
    state = case.state_dict(strip="gpt.")
    parts = {}
    for name in ("conditioning_encoder", "conditioning_perceiver"):
        below = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(name)}
        parts[name] = load_state(getattr(skeleton, name), below)
    vectors = eqx.filter_jit(parts["conditioning_encoder"])(last(case["mel"]))
    assert_close(golden.digest(last(vectors)), case, "conds_digest")
    assert_close(last(vectors)[:, :32], case, "conds_first")
    assert_close(last(eqx.filter_jit(parts["conditioning_perceiver"])(vectors)), case, "style")


def test_training_losses_equal_the_release(gpt):
    case = golden.case("xtts/gpt")
    text, codes = (case[name].astype(np.int32) for name in ("text", "codes"))
    text_count, samples = (case[name].astype(np.int32) for name in ("text_lengths", "wav_lengths"))
    targets = training_targets(text, text_count, codes, -(-samples // 1024), GOLDEN_GPT, hidden_stop=True)

    @eqx.filter_jit
    def forward(gpt, mel):
        style = gpt.condition(mel)
        counts = {"text_count": targets.text_count, "code_count": targets.code_count}
        return style, gpt(style, targets.text, targets.codes, **counts, inference=True)

    style, logits = forward(gpt, last(case["cond_mels"][:, 0]))
    assert_close(last(style), case, "style")
    assert_close(last(logits.text), case, "text_logits")
    assert_close(last(logits.audio), case, "mel_logits")
    assert_close(masked_cross_entropy(logits.text, targets.text_targets), case, "loss_text")
    assert_close(masked_cross_entropy(logits.audio, targets.code_targets), case, "loss_mel")


def test_latents_equal_the_release(gpt):
    case = golden.case("xtts/gpt")
    style, text = last(case["style"]), case["text"].astype(np.int32)
    ids = np.pad(text, ((0, 0), (1, 1)), constant_values=((0, 0), (GOLDEN_GPT.start_text, GOLDEN_GPT.stop_text)))
    latents = eqx.filter_jit(lambda gpt, *args: gpt.latents(*args))
    found = latents(gpt, style[:1], ids[:1], case["codes"][:1].astype(np.int32))
    assert_close(found, case, "latents")


def test_greedy_codes_and_their_latents_equal_the_release():
    case = golden.case("xtts/generate")
    gpt = load(case, GPT, GOLDEN_GPT, "gpt.")
    sampling = SamplingConfig(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=5.0)
    text = np.pad(case["text"].astype(np.int32), ((0, 0), (1, 1)), constant_values=((0, 0), (261, 0)))
    prefix = 32 + text.shape[1]
    state = eqx.filter_jit(lambda gpt, *args: gpt.start(*args, positions=64))(gpt, case["cond_latents"], text)
    step = eqx.filter_jit(lambda gpt, *args: gpt.step(*args))
    seen, remaining = initial_seen((1,), 1026, 1024, sampling), eqx.filter_jit(remaining_scores)
    for i, expected in enumerate(case["codes"][0]):
        np.testing.assert_allclose(state.logits[0], case["logits"][i], atol=1e-5 * np.abs(case["logits"]).max())
        np.testing.assert_allclose(state.latent[0], case["latents"][0, i], atol=1e-5 * np.abs(case["latents"]).max())
        scores = remaining(state.logits, seen, sampling)
        np.testing.assert_allclose(scores[0], case["scores"][i], atol=1e-5 * np.abs(case["logits"]).max())
        code = draw(scores)
        assert code[0] == expected
        seen = add_seen(seen, code)
        state = step(gpt, code, i + 1, state.cache, prefix + 1 + i)


@pytest.mark.parametrize("row", range(4))
def test_scores_equal_those_of_transformers(row):
    case = golden.case("xtts/sampling")
    name = "abcd"[row]
    penalty, temperature, top_k, top_p = case.meta["config"][name]
    sampling = SamplingConfig(
        temperature=temperature, top_k=int(top_k), top_p=top_p, repetition_penalty=penalty, penalize_prefix=False
    )
    logits, ids = jnp.asarray(case["logits"]), case["ids"].astype(np.int32)
    seen = np.zeros(logits.shape, bool)
    for number, one in enumerate(ids):
        seen[number, one] = True
    scores = np.asarray(remaining_scores(logits, jnp.asarray(seen), sampling))
    np.testing.assert_array_equal(np.isfinite(scores), case[f"kept_{name}"] > 0)
    assert_close(np.where(np.isfinite(scores), scores, 0), case, f"scores_{name}")
    assert_close(jax.nn.softmax(scores), case, f"probs_{name}")


def test_padded_texts_do_not_change_the_others(gpt):
    case = golden.case("xtts/gpt")
    style, text = last(case["style"]), case["text"].astype(np.int32)
    short = np.full((1, 10), GOLDEN_GPT.stop_text, np.int32)
    short[0, 0], short[0, 1:9] = GOLDEN_GPT.start_text, text[1, :8]
    start = eqx.filter_jit(lambda gpt, *args, **options: gpt.start(*args, **options, positions=48))
    expected = start(gpt, style[1:], short)
    padded = np.pad(short, ((0, 0), (0, 4)))
    found = start(gpt, style[1:], padded, text_count=jnp.asarray([10]))
    np.testing.assert_allclose(found.logits, expected.logits, atol=2e-5 * np.abs(expected.logits).max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "multiple of heads"),
        ({"conditioning": ConditioningConfig(heads=1, norm_groups=3)}, "multiple of conditioning.norm_groups"),
        ({"start_text": 10**6}, "be below text_ids"),
        ({"stop_audio": 10**6}, "be below audio_ids"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_configurations_of_the_language_model_are_checked(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(GOLDEN_GPT, **changes)


def test_parts_of_a_configuration_fit_together():
    config = preset("v2")
    with pytest.raises(ConfigError, match="codes"):
        dataclasses.replace(config, dvae=dataclasses.replace(config.dvae, codes=config.dvae.codes // 2))
    with pytest.raises(ConfigError, match="in_channels"):
        dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, in_channels=8))
    with pytest.raises(ConfigError, match="cond_channels"):
        dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, cond_channels=8))


def test_lengths_of_audio_equal_the_release():
    decoder = eqx.filter_eval_shape(HiFiDecoder, preset("v2"), key=jax.random.key(0))
    expected = golden.case("xtts/hifi_decoder")["lengths"]
    np.testing.assert_array_equal([decoder.samples(codes) for codes in range(1, 603)], expected)


def test_features_equal_the_release():
    case = golden.case("xtts/hifi_decoder")
    decoder = eqx.filter_eval_shape(HiFiDecoder, preset("v2"), key=jax.random.key(0))
    single = decoder.features(jnp.asarray(case["latents_single"]))
    assert_close(golden.digest(last(single)), case, "z_single_digest")
    assert_close(last(single)[0, :8], case, "z_single_first")
    assert_close(golden.digest(last(decoder.features(jnp.asarray(case["latents_batch"])))), case, "z_batch_digest")


@pytest.mark.slow
def test_decoder_equals_the_release():
    case = golden.case("xtts/hifi_decoder")
    skeleton = eqx.filter_eval_shape(HiFiDecoder, preset("v2"), key=jax.random.key(0))
    decoder = load(case, lambda *_, **__: skeleton.waveform_decoder, None, "hifigan_decoder.waveform_decoder.")
    features, call = skeleton.features, eqx.filter_jit(decoder)
    for name, count in (("single", 1), ("batch", 2)):
        found = call(features(jnp.asarray(case[f"latents_{name}"])), case["g"][:count, :, 0])
        assert_close(last(found), case, f"wav_{name}")


@pytest.mark.parametrize(("name", "count"), [("v2", 466_900_598), ("v1_1", None)])
def test_names_and_shapes_equal_the_release(name, count):
    network = eqx.filter_eval_shape(XTTS, preset(name), key=jax.random.key(0))
    found = {name: tuple(array.shape) for name, array in named_arrays(network).items()}
    expected = released_shapes(f"xtts_{name}")
    unused = {path: shape for path, shape in expected.items() if path.startswith("gpt.prompt_")}
    assert (len(unused) > 0) == (name == "v1_1")
    assert found == {path: shape for path, shape in expected.items() if path not in unused}
    assert count is None or sum(math.prod(shape) for shape in found.values()) == count


def test_latents_do_not_depend_on_padding(gpt):
    case = golden.case("xtts/gpt")
    style, codes = last(case["style"])[1:], case["codes"][1:].astype(np.int32)[:, :9]
    text = np.asarray([[GOLDEN_GPT.start_text, 7, 9, 4, GOLDEN_GPT.stop_text]], np.int32)
    latents = eqx.filter_jit(lambda gpt, *args, **options: gpt.latents(*args, **options))
    expected = latents(gpt, style, text, codes)
    padded = np.pad(text, ((0, 0), (0, 3)), constant_values=5), np.pad(codes, ((0, 0), (0, 4)), constant_values=3)
    found = latents(gpt, style, *padded, text_count=jnp.asarray([5]))
    np.testing.assert_allclose(found[:, :9], expected, atol=1e-5 * np.abs(expected).max())
    # Control: without the number of tokens, the padding has an influence.
    assert np.abs(latents(gpt, style, *padded)[:, :9] - expected).max() > 1e-3 * np.abs(expected).max()
