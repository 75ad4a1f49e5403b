"""A step of YourTTS with the speaker consistency loss: losses and gradients of the release, at full size.

The networks have their full sizes, so the tests are slow.
"""

import functools

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import ColumnBatch
from jaxvoice.models.vits import VITS, VITSDiscriminators, preset
from jaxvoice.models.vits.losses import LossWeights
from jaxvoice.models.vits.objective import (
    StepNoise,
    discriminators_loss,
    generate,
    generator_losses,
    recorded_segments,
    step_inputs,
)
from jaxvoice.models.vits.segments import segment_starts
from jaxvoice.training.compiled_step import compiler_options
from jaxvoice.weights import load_state
from jaxvoice.weights.array_names import named_arrays
from tests.models.speaker_encoder import released as speaker_released
from tests.models.vits.released import assert_close, last, renamed
from tests.reference import golden

pytestmark = pytest.mark.slow

CONFIG = preset("yourtts")
WEIGHTS = LossWeights(speaker=9.0)
TERMS = ("adversarial", "kl", "feature", "mel", "durations", "speaker")
"""The names of the terms of the golden case, in its order."""
MODULES = ("emb_l", "text_encoder", "posterior_encoder", "flow", "duration_predictor", "waveform_decoder")


@pytest.fixture(scope="module")
def case():
    return golden.case("vits/train_step")


def inputs_of(case):
    audio = case["waveform"][:, 0]
    # Floats instead of 16-bit integers, so that the samples are those of the release.
    columns = {
        "audio": audio,
        "gain": np.ones(2, np.float32),
        "tokens": case["tokens"].astype(np.int32),
        "speaker": case["d_vectors"],
        "language": case["language_ids"].astype(np.int32),
    }
    lengths = {
        "audio": case["spec_lens"].astype(np.int32) * CONFIG.mel.hop_length,
        "tokens": case["token_lens"].astype(np.int32),
    }
    return step_inputs(ColumnBatch(columns, lengths), CONFIG)


def noise_of(case, inputs):
    starts = segment_starts(inputs.frame_count, CONFIG.segment_frames, uniform=jnp.asarray(case["noise_2_uniform"]))
    return StepNoise(jnp.asarray(last(case["noise_0_normal"])), jnp.asarray(last(case["noise_1_normal"])), starts)


def networks_of(case):
    state = {renamed(name): value for name, value in case.state_dict().items()}
    key = jax.random.key(0)
    generator = load_state(
        eqx.filter_eval_shape(VITS, CONFIG, key=key), {k: v for k, v in state.items() if not k.startswith("disc.")}
    )
    discriminators = load_state(
        eqx.filter_eval_shape(VITSDiscriminators, CONFIG.discriminators, key=key),
        {k.removeprefix("disc."): v for k, v in state.items() if k.startswith("disc.")},
    )
    prefix = "speaker_encoder_state."
    stored = {name.removeprefix(prefix): array for name, array in case.arrays.items() if name.startswith(prefix)}
    tensors = case.state_dict("speaker_encoder_tensors") | stored
    encoder = speaker_released.load(speaker_released.CASES["resnet_wav"], tensors)
    return generator, discriminators, encoder


def selected(case, prefix):
    names = [name for name in case.arrays if name.startswith(prefix)]
    return {name: renamed(name.removeprefix(prefix)) for name in names}


@functools.cache
def results():
    case = golden.case("vits/train_step")
    inputs = inputs_of(case)
    noise = noise_of(case, inputs)
    recorded = recorded_segments(inputs, noise.starts, CONFIG)
    wanted = {*selected(case, "graddigest_kl.").values(), *selected(case, "graddigest_rest.").values()}

    options = compiler_options()
    generator, discriminators, encoder = networks_of(case)
    params, static = eqx.partition(generator, eqx.is_inexact_array)

    def forward(params):
        return jax.vjp(lambda one: generate(eqx.combine(one, static), inputs, noise, inference=True), params)

    # Two programs: the second one runs once for each term.
    generated, pull = jax.jit(forward, compiler_options=options)(params)

    @functools.partial(jax.jit, compiler_options=options)
    def pulled(pull, cotangent):
        (gradient,) = pull(cotangent)
        norms = jnp.stack([norm(getattr(gradient, module)) for module in MODULES])
        arrays = named_arrays(gradient)
        return norms, {name: arrays[name] for name in wanted}

    encoder_arrays, encoder_static = eqx.partition(encoder, eqx.is_array)

    @functools.partial(jax.jit, compiler_options=options)
    def losses(discriminators, encoder_arrays, generated):
        def found(generated):
            encoder = eqx.combine(encoder_arrays, encoder_static)
            return generator_losses(discriminators, recorded, generated, WEIGHTS, CONFIG, speaker_encoder=encoder)

        cotangents = {name: jax.grad(lambda one, name=name: found(one)[0][name])(generated) for name in TERMS}
        return *found(generated), cotangents

    found, metrics, cotangents = losses(discriminators, encoder_arrays, generated)
    terms = [cotangents[name] for name in TERMS]
    rest = jax.tree.map(lambda *parts: sum(parts[1:]) - parts[0], cotangents["kl"], *terms)
    norms, arrays = zip(*(pulled(pull, cotangent) for cotangent in (*terms, rest)), strict=True)

    @functools.partial(jax.jit, compiler_options=options)
    def of_discriminators(discriminators):
        value, gradient = jax.value_and_grad(lambda one: discriminators_loss(one, recorded, generated))(discriminators)
        return value, norm(gradient), gradient

    value, disc_norm, gradient = of_discriminators(discriminators)
    gradient = named_arrays(gradient)
    names = {name: renamed(key) for name, key in selected(case, "graddigest_disc.disc.").items()}
    disc = {name: golden.digest(np.asarray(gradient[key])) for name, key in names.items()}
    return inputs, recorded, generated, found, metrics, np.array(norms), arrays, value, disc_norm, disc


def norm(tree):
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array))))


def test_inputs_and_segments_are_those_of_the_release(case):
    inputs, recorded = results()[:2]
    assert_close(golden.digest(last(inputs.spectrogram)), case, "spec_digest")
    assert_close(golden.digest(last(inputs.mel)), case, "mel_digest")
    starts = np.asarray(noise_of(case, inputs).starts)
    np.testing.assert_array_equal(starts, case["slice_ids"])
    assert_close(golden.digest(np.asarray(recorded.audio)), case, "waveform_seg_digest")


def test_generated_audio_and_losses_are_those_of_the_release(case):
    _, _, generated, losses, metrics, *_ = results()
    assert_close(generated.audio[:, None], case, "model_outputs")
    names = {"adversarial": "gen", "feature": "feat", "mel": "mel", "kl": "kl", "durations": "duration"}
    for ours, theirs in (names | {"speaker": "spk_encoder"}).items():
        assert_close(losses[ours], case, f"g_loss_{theirs}")
    assert_close(sum(losses.values()), case, "g_loss")
    cosine = np.sum(case["gt_spk_emb"] * case["syn_spk_emb"], axis=1).mean()
    np.testing.assert_allclose(metrics["speaker_similarity"], cosine, rtol=1e-5)


def test_norms_of_the_gradients_of_all_terms_are_those_of_the_release(case):
    norms, disc_norm = results()[5], results()[8]
    expected = case["grad_norms"][:, : len(MODULES)]
    np.testing.assert_allclose(norms[: len(TERMS)], expected, rtol=1e-3, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(norms[: len(TERMS)] == 0, expected == 0)
    np.testing.assert_allclose(disc_norm, case["grad_norms_disc"][-1], rtol=1e-4)


def test_gradients_are_those_of_the_release(case):
    arrays, disc = results()[6], results()[9]
    for part, row in (("kl", TERMS.index("kl")), ("rest", len(TERMS))):
        for name, ours in selected(case, f"graddigest_{part}.").items():
            assert_close(golden.digest(arrays[row][ours]), case, name)
    for name, found in disc.items():
        assert_close(found, case, name)


def test_the_loss_of_the_discriminators_is_that_of_the_release(case):
    assert_close(results()[7], case, "d_loss")


def test_the_speaker_consistency_loss_reaches_the_decoder_and_the_posterior_encoder_only(case):
    speaker = dict(zip(MODULES, results()[5][TERMS.index("speaker")], strict=True))
    assert {name for name, norm in speaker.items() if norm > 0} == {"posterior_encoder", "waveform_decoder"}
