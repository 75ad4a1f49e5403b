"""Losses, gradients and steps of the training of RAVE compared with the release and with torch; its schedules."""

import dataclasses
import functools
import math

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
import torch
from jax import numpy as jnp

from experiments.benchmarks import torch_rave
from experiments.benchmarks.torch_hifigan import arrays_of
from jaxvoice.data import AudioBatch
from jaxvoice.errors import ConfigError
from jaxvoice.models.rave import (
    PQMF,
    PRESETS,
    BottleneckConfig,
    DiscriminatorConfig,
    EncoderConfig,
    GeneratorConfig,
    PQMFConfig,
    Rave,
    RaveConfig,
    build_discriminators,
    losses,
    preset,
)
from jaxvoice.models.rave.training import RaveTask
from jaxvoice.models.rave.training_config import (
    BetaSchedule,
    LossWeights,
    RaveTrainingConfig,
    StepKind,
    discriminator_optimizer,
    generator_optimizer,
    training_preset,
)
from jaxvoice.training.optimizers import OptimizerConfig, learning_rate
from jaxvoice.weights import load_state, named_arrays
from tests.models.rave.released import channels_last, largest_error, load, with_capacity
from tests.reference import golden

DILATIONS = ((2,), (1,))
MODEL = RaveConfig(
    EncoderConfig(capacity=4, ratios=(2, 2), dilations=DILATIONS),
    GeneratorConfig(capacity=4, ratios=(2, 2), dilations=DILATIONS),
    BottleneckConfig(latent_size=3),
    DiscriminatorConfig(capacity=1, scales=1, periods=(2,)),
    PQMFConfig(attenuation=70, num_bands=4),
    sample_rate=8000,
)
# With a large constant in the denominator, an update of Adam is almost proportional to the gradient. With the usual
# one, rounding errors of gradients near zero would decide the signs of updates.
OPTIMIZER = OptimizerConfig(
    learning_rate=1e-2, b1=0.5, b2=0.9, eps=0.1, weight_decay=0.0, schedule="linear", decay=0.1, decay_steps=2
)
CONFIG = RaveTrainingConfig(
    MODEL,
    OPTIMIZER,
    dataclasses.replace(OPTIMIZER, schedule="constant"),
    phase_1_steps=2,
    update_discriminator_every=2,
    beta=BetaSchedule(0.1, 0.01, 4),
    weights=LossWeights(twice=True),
    scales=(64,),
    multiband_scales=(16,),
    log_epsilon=1e-2,
    segment_size=1024,
)


def recordings(rows=2, samples=1024, channels=1):
    """Tones with noise."""
    random = np.random.default_rng(0)
    waves = np.sin(np.arange(samples)[None, :, None] * random.uniform(0.05, 0.3, (rows, 1, channels)))
    return (0.3 * waves + 0.02 * random.normal(size=waves.shape)).astype(np.float32)


@functools.cache
def compiled(config: RaveTrainingConfig):
    task = RaveTask(config, steps_per_epoch=3)
    return task, eqx.filter_jit(
        lambda state, audio, key, phase: task.step(state, AudioBatch(audio), key=key, phase=phase)
    )


def with_formula(tree):
    """`tree` with the weights of `golden.tensor`, except those of the filter bank."""
    arrays = named_arrays(tree)
    drawn = {n: golden.tensor(n, a.shape) for n, a in arrays.items() if not n.startswith("pqmf.")}
    return load_state(tree, arrays | drawn)


@functools.cache
def start(config: RaveTrainingConfig):
    """The state before the first step."""

    def build():
        network = Rave(config.model, key=jax.random.key(0))
        discriminators = build_discriminators(
            config.model.discriminators, config.model.n_channels, key=jax.random.key(1)
        )
        return network, network.init_state(), discriminators

    network, buffers, discriminators = eqx.filter_jit(build)()
    return compiled(config)[0].state_of(with_formula(network), buffers, with_formula(discriminators))


@functools.cache
def run(config, steps):
    """The states after each of `steps` steps, and their metrics."""
    task, step = compiled(config)
    state, found = start(config), []
    for number in range(steps):
        state, metrics = step(state, recordings(), jax.random.key(number), task.phase_of(number))
        found.append((state, metrics))
    return found


def drawn_noise(key, shape):
    """The noise with which a step draws latents."""
    encode_key = jax.random.split(key)[0]
    return jax.random.normal(jax.random.split(encode_key, 2)[1], shape)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["pqmf", pytest.param("raw", marks=pytest.mark.slow)])
def test_steps_equal_torch(output):
    """Steps of the first phase, of the discriminators, and of the generator."""
    generator = (
        MODEL.generator
        if output == "pqmf"
        else GeneratorConfig(output="raw", capacity=4, ratios=(4, 4), dilations=DILATIONS)
    )
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, generator=generator))
    before = start(config)
    network, judges = torch_rave.Rave(config.model), torch_rave.Discriminators(config.model.discriminators)
    for theirs, ours in ((network, before.networks.model), (judges, before.discriminators.model)):
        arrays = {n: a for n, a in named_arrays(ours).items() if not n.startswith("pqmf.")}
        theirs.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    trainer = torch_rave.Trainer(network, judges, config)
    audio = torch.from_numpy(recordings().swapaxes(1, 2).copy())
    modes = ["reconstruction", "reconstruction", "discriminators", "generator", "discriminators"]
    for number, (state, metrics) in enumerate(run(config, 5)):
        kind = config.step_kind(number)
        assert kind.mode == modes[number]
        frames = config.segment_size // config.model.hop_length
        noise = drawn_noise(jax.random.key(number), (2, frames, 3))
        expected = trainer.step(audio, torch.from_numpy(np.array(noise)).mT, kind.mode)
        for name, value in expected.items():
            assert float(metrics[name]) == pytest.approx(value, rel=1e-4), (number, name)
        for theirs, of_start, ours in (
            (network, before.networks.model, state.networks.model),
            (judges, before.discriminators.model, state.discriminators.model),
        ):
            initial, found = named_arrays(of_start), named_arrays(ours)
            for name, array in arrays_of(theirs).items():
                moved = np.abs(array - initial[name]).max()
                np.testing.assert_allclose(found[name], array, atol=1e-3 * moved + 1e-7, rtol=0, err_msg=name)


def changed(before, after) -> set[str]:
    """The names of the arrays that differ."""
    left, right = named_arrays(before), named_arrays(after)
    return {name for name in left if not np.array_equal(left[name], right[name])}


def test_encoder_is_frozen_in_the_second_phase():
    """Neither its weights nor the moments of its optimiser change, and gradients of its losses do not count."""
    steps = run(CONFIG, 5)
    (_, _), (before, _), (judged, judging), (after, metrics) = steps[:4]
    assert "discriminator" in judging and "discriminator" not in metrics
    assert changed(before.networks, judged.networks) == set()
    assert changed(before.discriminators.model, judged.discriminators.model)
    of_generator = changed(judged.networks, after.networks)
    assert any(name.startswith("model.decoder.") for name in of_generator)
    assert not [name for name in of_generator if "encoder" in name or "pqmf" in name]
    assert changed(judged.discriminators, after.discriminators) == set()
    moments = named_arrays(steps[0][0].networks.optimizer_state)
    assert any(".encoder." in name for name in moments) and not any("pqmf" in name for name in moments)


def released_networks():
    case = golden.case("rave/training_step")
    config = with_capacity(preset("v2"), 8)
    arrays = case.state_dict()
    of_judges = {n.removeprefix("discriminator."): a for n, a in arrays.items() if n.startswith("discriminator.")}
    network, state = load(config, {n: a for n, a in arrays.items() if not n.startswith("discriminator.")})
    shapes = eqx.filter_eval_shape(build_discriminators, config.discriminators, key=jax.random.key(0))
    return case, config, network, state, load_state(shapes, of_judges)


def norm(gradient) -> float:
    return float(optax.tree_utils.tree_norm(eqx.filter(gradient, eqx.is_inexact_array)))


def in_double_precision(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, tree)


@pytest.mark.slow
def test_losses_and_gradients_equal_the_release():
    # In float32, the gradients of 10 spectrograms differ by up to 4e-5 after their sum.
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        check_losses_and_gradients()


def check_losses_and_gradients():
    case, model, *networks = released_networks()
    network, state, discriminators = in_double_precision(networks)
    config = dataclasses.replace(training_preset("v2"), model=model, log_epsilon=1.0, weights=LossWeights(twice=True))
    left, right = case.meta["config"]["receptive_field"]
    crop = left // 16, -(-right // 16)
    beta = case.meta["config"]["beta_factor"]
    audio, noise = (channels_last(case[name].astype(np.float64)) for name in ("x", "noise_0_normal"))

    def generate(network, frozen):
        latents, _ = network.encode(audio, state, noise=[noise])
        z = jax.lax.stop_gradient(latents.z) if frozen else latents.z
        output, _ = network.decode_bands(z, state)
        regularization = jax.lax.stop_gradient(latents.regularization) if frozen else latents.regularization
        return losses.generated_signals(config, network.pqmf, output), regularization

    def generator_loss(networks, adversarial):
        network, discriminators = networks
        fake, regularization = generate(network, adversarial)
        real = losses.recorded_signals(config, network.pqmf, audio)
        parts = losses.spectral_losses(config, real, fake, crop)
        total = losses.reconstruction_loss(config, parts, regularization, jnp.asarray(beta))
        parts["regularization"] = regularization
        if adversarial:
            more, judged = losses.adversarial_losses(config, *losses.judge(discriminators, audio, fake.audio))
            total, parts = total + more, parts | judged
        return total, parts

    def discriminator_loss(discriminators):
        fake, _ = generate(network, True)
        return losses.discriminators_loss(config, *losses.judge(discriminators, audio, fake.audio))

    names = {
        "fullband": "fullband_spectral_distance",
        "multiband": "multiband_spectral_distance",
        "regularization": "regularization",
        "feature_matching": "feature_matching",
        "adversarial": "adversarial",
        "logit_real": "pred_real",
        "logit_fake": "pred_fake",
    }

    def check(prefix, parts, gradients):
        # The release logs the sum of the mean logits of its eight discriminators.
        weights = {"feature_matching": 20.0, "regularization": beta, "logit_real": 8.0, "logit_fake": 8.0}
        rounding = case.meta["rounding"]
        for name, value in parts.items():
            key = f"{prefix}_{names[name]}"
            expected = float(case[key])
            assert float(value) * weights.get(name, 1.0) == pytest.approx(expected, rel=max(1e-5, 10 * rounding[key]))
        for key in (key for key in case.arrays if key.startswith(f"{prefix}_graddigest.")):
            name = key.partition("graddigest.")[2]
            part = 1 if name.startswith("discriminator.") else 0
            if gradients[part] is None:
                continue
            found = named_arrays(gradients[part])[name.removeprefix("discriminator.")]
            error = largest_error(golden.digest(np.asarray(found)), case[key])
            assert error < max(1e-5, 10 * rounding[key]), key
        encoder, decoder, judges = case[f"{prefix}_grad_norms"]
        if gradients[0] is not None:
            assert norm(gradients[0].encoder) == pytest.approx(encoder, rel=1e-4, abs=1e-12)
            assert norm(gradients[0].decoder) == pytest.approx(decoder, rel=1e-4)
        if gradients[1] is not None:
            assert norm(gradients[1]) == pytest.approx(judges, rel=1e-4)

    both = (network, discriminators)
    value_and_grad = eqx.filter_value_and_grad(generator_loss, has_aux=True)
    (_, parts), gradients = eqx.filter_jit(lambda pair: value_and_grad(pair, False))(both)
    check("phase1_gen", parts, (gradients[0], None))
    (_, parts), gradients = eqx.filter_jit(lambda pair: value_and_grad(pair, True))(both)
    check("phase2_gen", parts, gradients)
    (loss, parts), gradient = eqx.filter_jit(eqx.filter_value_and_grad(discriminator_loss, has_aux=True))(
        discriminators
    )
    assert float(loss) == pytest.approx(float(case["phase2_dis_loss_dis"]), rel=1e-5)
    check("phase2_dis", parts, (None, gradient))


def test_schedule_of_steps():
    config = dataclasses.replace(CONFIG, phase_1_steps=6, update_discriminator_every=4)
    modes = [config.step_kind(step).mode for step in range(14)]
    assert modes[:6] == ["reconstruction"] * 6
    assert modes[6:] == ["generator"] * 2 + ["discriminators"] + ["generator"] * 3 + ["discriminators", "generator"]
    every_2 = dataclasses.replace(config, update_discriminator_every=2)
    assert [every_2.step_kind(step).mode for step in range(6, 10)] == ["discriminators", "generator"] * 2
    kinds = [StepKind(mode, quantize) for mode in dict.fromkeys(modes) for quantize in (False, True)]
    assert [StepKind.of(kind.number) for kind in kinds] == kinds and len({kind.number for kind in kinds}) == 6
    task = RaveTask(config, steps_per_epoch=1)
    ranks = [task.rank_of(task.phase_of(step)) for step in range(14)]
    assert ranks == [0] * 6 + [1] * 8


def test_quantisation_starts_after_its_warm_up():
    discrete = dataclasses.replace(MODEL, bottleneck=BottleneckConfig("discrete", 3, num_quantizers=1))
    for warmup, expected in ((0, [True] * 4), (2, [False, False, True, True]), (None, [False] * 4)):
        config = dataclasses.replace(CONFIG, model=discrete, warmup_quantize=warmup, phase_1_steps=3)
        assert [config.step_kind(step).quantize for step in range(4)] == expected
    assert not CONFIG.step_kind(100).quantize


def test_beta_changes_in_its_warm_up():
    # The values of the release at steps 0, 1, ... are those after 1, 2, ... of its counts.
    schedule = BetaSchedule(0.05, 1e-6, 20_000)
    assert float(schedule(0)) == pytest.approx(1e-6 * (5e4) ** (1 / 20_000), rel=1e-5)
    assert float(schedule(9_999)) == pytest.approx(math.sqrt(1e-6 * 0.05), rel=1e-4)
    assert float(schedule(19_999)) == float(schedule(10**6)) == pytest.approx(0.05, rel=1e-6)
    linear = BetaSchedule(1.0, 0.0, 4, "linear")
    np.testing.assert_allclose([float(linear(step)) for step in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])
    assert float(BetaSchedule(0.1)(0)) == pytest.approx(0.1)
    assert float(jax.jit(schedule)(jnp.asarray(9_999))) == pytest.approx(float(schedule(9_999)), rel=1e-6)
    with pytest.raises(ConfigError, match="initial"):
        BetaSchedule(0.1, 0.0, 10)


def test_learning_rates_are_those_of_the_release():
    rate = learning_rate(generator_optimizer(1000), steps_per_epoch=1)
    found = [float(rate(jnp.asarray(step))) for step in (0, 500, 1000, 5000)]
    np.testing.assert_allclose(found, [1e-3, 5.5e-4, 1e-4, 1e-4], rtol=1e-5)
    constant = learning_rate(discriminator_optimizer(), steps_per_epoch=1)
    assert float(constant(jnp.asarray(10**6))) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v1", (1_000_000, 2, 0.1, 0.1, 10.0, False)),
        ("v2", (1_000_000, 4, 1e-6, 0.05, 20.0, True)),
        ("v2_small", (1_000_000, 2, 0.01, 0.01, 20.0, True)),
        ("v2_nopqmf", (1_000_000, 4, 1e-6, 0.01, 20.0, True)),
        ("v3", (1_000_000, 4, 1e-6, 0.05, 20.0, True)),
        ("discrete", (200_000, 4, 0.1, 0.1, 20.0, True)),
        ("wasserstein", (200_000, 4, 100.0, 100.0, 20.0, True)),
    ],
)
def test_presets_have_the_settings_of_the_release(name, expected):
    config = training_preset(name)
    beta, duration = config.beta, config.phase_1_steps
    first = float(beta(0)) if not beta.steps else beta.initial
    found = (duration, config.update_discriminator_every, first, float(beta(10**6)), config.weights.feature_matching)
    np.testing.assert_allclose(found, expected[:5], rtol=1e-6)
    assert config.crop_to_valid == expected[5] and config.generator_optimizer.decay_steps == duration


def test_every_preset_can_be_trained():
    for name in PRESETS:
        config = training_preset(name)
        assert config.model == PRESETS[name] and config.compared_frames > 1024


def test_add_ons_change_the_training():
    assert training_preset("v2", "wasserstein").weights.adversarial == 2.0
    assert training_preset("v2", "wasserstein").weights.effective.adversarial == 2.0
    assert dataclasses.replace(training_preset("v2").weights, twice=True).effective.feature_matching == 400.0
    assert training_preset("v2", "spherical").phase_1_steps == 200_000
    assert training_preset("v2").crop == (27117 // 16, -(-26428 // 16))


def test_perfect_sub_bands_of_a_causal_preset_have_no_loss():
    """The audio of the sub-bands is as late as its target; the recording itself is 528 samples earlier."""
    config = training_preset("v2", "causal")
    assert config.fullband_target == "round_trip"
    for other in (training_preset("v2"), training_preset("v2_nopqmf", "causal")):
        assert other.fullband_target == "audio"
    config = dataclasses.replace(config, crop_to_valid=False, segment_size=32768)
    pqmf, audio = PQMF(config.model.pqmf, causal=True), jnp.asarray(recordings(1, 32768))

    @functools.partial(jax.jit, static_argnums=0)
    def distance(config):
        real = losses.recorded_signals(config, pqmf, audio)
        return losses.spectral_losses(config, real, losses.generated_signals(config, pqmf, real.bands))["fullband"]

    assert pqmf.delay == 528
    assert float(distance(config)) < 1e-6 < 0.1 < float(distance(dataclasses.replace(config, fullband_target="audio")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segment_size": 1000}, "multiple of the hop length of the model, 16, such as 992"),
        (
            {"segment_size": 16},
            r"scales is \(64,\); it should hold less than twice the 16 samples of a",
        ),
        ({"multiband_scales": (2048,)}, "frames of sub-bands that are compared"),
        ({"update_discriminator_every": 1}, "update_discriminator_every"),
        ({"scales": (30,)}, "multiples of 4"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"phase_1_steps": 0}, "phase_1_steps"),
    ],
)
def test_impossible_settings_raise(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **changes)
