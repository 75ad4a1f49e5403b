"""The networks of VITS compared with golden values of coqui's implementation.

Those whose results the tests of synthesis and conversion contain are slow.
"""

import dataclasses

import equinox as eqx
import numpy as np
import pytest

from jaxvoice.models.hifigan.config import DiscriminatorConfig
from jaxvoice.models.vits import (
    DurationConfig,
    DurationPredictor,
    PosteriorEncoder,
    ResidualCouplings,
    StochasticDurationPredictor,
    TextEncoder,
    TextEncoderConfig,
    VITSConfig,
    VITSDiscriminators,
    preset,
    rational_quadratic_spline,
)
from jaxvoice.nn import length_mask, masked
from jaxvoice.text.symbol_table import VITS_SYMBOLS
from tests.models.vits.released import assert_close, last, load
from tests.reference import golden

YOURTTS = preset("yourtts")


@pytest.mark.parametrize(
    ("name", "language"),
    [pytest.param("text_encoder", True, marks=pytest.mark.slow), ("text_encoder_plain", False)],
)
def test_text_encoder_equals_the_release(name, language):
    case = golden.case(f"vits/{name}")
    plain = VITSConfig(symbols=VITS_SYMBOLS, text=TextEncoderConfig(layers=6))
    encoder = load(case, TextEncoder, YOURTTS if language else plain, "text_encoder")
    call = eqx.filter_jit(lambda encoder, *args, mask: encoder(*args, mask=mask, inference=True))
    vector = case["lang_emb"][..., 0] if language else None
    for prefix in ("", "short_"):
        tokens, lengths = case[f"{prefix}tokens"].astype(np.int32), case[f"{prefix}lengths"].astype(np.int32)
        mask = length_mask(lengths, tokens.shape[1])
        found = call(encoder, tokens, vector, mask=mask)
        assert_close(last(found.hidden), case, f"{prefix}x")
        assert_close(last(found.prior.mean), case, f"{prefix}m")
        assert_close(last(found.prior.log_scale), case, f"{prefix}logs")
        np.testing.assert_array_equal(mask[:, None], case[f"{prefix}x_mask"] > 0)


@pytest.mark.slow
def test_posterior_encoder_equals_the_release():
    case = golden.case("vits/posterior_encoder")
    encoder = load(case, PosteriorEncoder, YOURTTS, "posterior_encoder")
    mask = length_mask(case["lengths"].astype(np.int32), case["spec"].shape[2])
    call = eqx.filter_jit(lambda encoder, *args, mask: encoder(*args, mask=mask))
    found = call(encoder, last(case["spec"]), case["g"][..., 0], mask=mask)
    assert_close(last(found.mean), case, "m")
    assert_close(last(found.log_scale), case, "logs")
    assert_close(last(masked(found.sample(last(case["noise_0_normal"])), mask)), case, "z")


@pytest.mark.slow
def test_flow_equals_the_release():
    case = golden.case("vits/flow")
    flow = load(case, ResidualCouplings, YOURTTS, "flow")
    mask = length_mask(case["lengths"].astype(np.int32), case["z"].shape[2])
    args = last(case["z"]), case["g"][..., 0]
    forward = eqx.filter_jit(lambda flow, *args, mask: flow(*args, mask=mask))
    reverse = eqx.filter_jit(lambda flow, *args, mask: flow.reverse(*args, mask=mask))
    assert_close(last(forward(flow, *args, mask=mask)), case, "forward")
    assert_close(last(reverse(flow, *args, mask=mask)), case, "reverse")
    # Both directions are inverse where the input is not padding.
    z = args[0] * np.asarray(mask)[..., None]
    again = reverse(flow, forward(flow, z, args[1], mask=mask), args[1], mask=mask)
    np.testing.assert_allclose(again, z, atol=1e-5)


def test_splines_equal_the_release():
    case = golden.case("vits/spline")
    knots = [case[name] for name in ("widths", "heights", "derivatives")]
    for name, inverse in (("forward", False), ("inverse", True)):
        found = rational_quadratic_spline(case["x"], *knots, bound=5.0, inverse=inverse)
        assert_close(found[0], case, name)
        assert_close(found[1], case, f"{name}_logabsdet")


def test_stochastic_duration_predictor_equals_the_release():
    case = golden.case("vits/stochastic_duration_predictor")
    predictor = load(case, StochasticDurationPredictor, YOURTTS, "duration_predictor")
    mask = length_mask(case["lengths"].astype(np.int32), case["x"].shape[2])
    vectors = case["g"][..., 0], case["lang_emb"][..., 0]
    noise = last(case["noise_rev_0_normal"]) * np.float32(0.8)
    call = eqx.filter_jit(lambda predictor, *args, mask: predictor(*args, mask=mask))
    assert_close(call(predictor, last(case["x"]), noise, *vectors, mask=mask)[:, None], case, "logw")
    args = last(case["x"]), case["durations"][:, 0], last(case["noise_nll_0_normal"]), *vectors
    loss = eqx.filter_jit(lambda predictor, *args, mask: predictor.loss(*args, mask=mask, inference=True))
    assert_close(loss(predictor, *args, mask=mask), case, "nll")


def test_deterministic_duration_predictor_equals_the_release():
    case = golden.case("vits/duration_predictor")
    config = dataclasses.replace(YOURTTS, durations=DurationConfig("deterministic", channels=256))
    predictor = load(case, DurationPredictor, config, "duration_predictor")
    mask = length_mask(case["lengths"].astype(np.int32), case["x"].shape[2])
    vectors = case["g"][..., 0], case["lang_emb"][..., 0]
    call = eqx.filter_jit(lambda predictor, *args, mask: predictor(*args, mask=mask))
    found = call(predictor, last(case["x"]), None, *vectors, mask=mask)
    assert_close(found[:, None], case, "logw")
    valid = np.asarray(mask)
    durations = np.random.default_rng(0).integers(1, 9, mask.shape) * valid
    loss = eqx.filter_jit(lambda predictor, *args, mask: predictor.loss(*args, mask=mask, inference=True))
    expected = np.square(np.log(durations + 1e-6) * valid - found).sum(-1)
    np.testing.assert_allclose(
        loss(predictor, last(case["x"]), durations.astype(np.float32), None, *vectors, mask=mask), expected, rtol=1e-5
    )


def test_discriminators_equal_the_release():
    case = golden.case("vits/discriminator")
    discriminators = load(case, VITSDiscriminators, DiscriminatorConfig(scales=1), "disc")
    audio = np.concatenate([case["real"], case["fake"]])
    outputs = eqx.filter_jit(lambda model, audio: model(audio))(discriminators, last(audio))
    for i, output in enumerate(outputs):
        for kind, part in (("real", slice(0, 2)), ("fake", slice(2, 4))):
            assert_close(output.logits[part], case, f"{i}_score_{kind}")
            for j, features in enumerate(output.features):
                # Ours is (batch, time, channels) or (batch, period, frames, channels).
                axes = (0, 2, 1) if features.ndim == 3 else (0, 3, 2, 1)
                found = golden.digest(np.transpose(features[part], axes))
                assert_close(found, case, f"{i}_fmap_{j}_{kind}_digest")
