"""Both phases of training, with few channels and synthetic utterances."""

import math
import re
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxvoice.data import UtteranceBatch
from jaxvoice.errors import ConfigError, MelError, ShapeError, TextError
from jaxvoice.models import gaussian_tts, hifigan
from jaxvoice.models.gaussian_tts import FAMILY, GaussianUpsampling, UpsamplingConfig
from jaxvoice.models.gaussian_tts.training import (
    GaussianTTSTask,
    TrainingConfig,
    acoustic_optimizer,
    duration_optimizer,
)
from jaxvoice.nn import BatchNormState
from jaxvoice.training.compiled_step import step_key
from jaxvoice.training.optimizers import OptimizerConfig, decays_to, learning_rate
from jaxvoice.training.parallel import data_mesh, replicate, shard_batch
from tests.models.gaussian_tts.small import SMALL, changed, filled

RATE, DECAY = 3e-3, 0.99
# The large rate and weight decay make unwanted changes visible. The epsilon suppresses updates by rounding errors,
# because the true gradients of the keys' biases are zero.
OPTIMIZER = OptimizerConfig(RATE, eps=1e-3, weight_decay=0.1, decay=DECAY, decay_steps=1, clip_norm=1.0)
CONFIG = TrainingConfig(
    model=replace(
        changed(statistics={"mel_mean": -5.0, "mel_std": 2.0}, decoder={"postnet_layers": 1}, durations={"layers": 1}),
        dim=8,
    ),
    acoustic_steps=2,
    acoustic_optimizer=OPTIMIZER,
    duration_optimizer=OPTIMIZER,
    ema_decay=0.9,
)
MELS, IDS = SMALL.mel.num_mels, len(SMALL.codes)


def make_batch(rows=8, phones=6, frames=24, seed=0):
    """A batch in which each phoneme has its own spectrum, so that the mels can be learned."""
    rng = np.random.default_rng(seed)
    sounds = np.random.default_rng(7).normal(-5, 2, (IDS + 1, MELS)).astype(np.float32)
    ids, durations = np.zeros((rows, phones), np.int32), np.zeros((rows, phones), np.float32)
    mel, counts, lengths = np.zeros((rows, MELS, frames), np.float32), [], []
    for row in range(rows):
        count = int(rng.integers(2, phones + 1))
        ids[row, :count] = rng.integers(1, IDS + 1, count)
        durations[row, :count] = ids[row, :count] % 4 + 1
        spoken = np.repeat(sounds[ids[row, :count]], durations[row, :count].astype(int), axis=0)
        mel[row, :, : len(spoken)] = spoken.T
        counts.append(count)
        lengths.append(len(spoken))
    return UtteranceBatch(ids, np.array(counts, np.int32), durations, mel, np.array(lengths, np.int32))


def task_of(**changes):
    return GaussianTTSTask(replace(CONFIG, **changes), steps_per_epoch=1)


def beginning(task):
    """A state with random weights, created without compilation."""
    shapes = eqx.filter_eval_shape(task.init, key=jax.random.key(0))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)

    def unit_variance(node):
        return replace(node, running_var=node.running_var + np.float32(1)) if isinstance(node, BatchNormState) else node

    norms = jax.tree.map(
        unit_variance, state.acoustic.model_state, is_leaf=lambda node: isinstance(node, BatchNormState)
    )
    acoustic = filled(shapes.acoustic.model)
    parts = (acoustic, acoustic, norms, norms, filled(shapes.durations.model))

    def places(state):
        learner = state.acoustic
        return (learner.model, learner.average, learner.model_state, learner.average_state, state.durations.model)

    return jax.tree.map(jnp.asarray, eqx.tree_at(places, state, parts))


@pytest.fixture(scope="module")
def task():
    return task_of()


@pytest.fixture(scope="module")
def step(task):
    # The phase is not an array, so it is compiled into the program.
    return eqx.filter_jit(lambda state, batch, phase: task.step(state, batch, key=jax.random.key(0), phase=phase))


@pytest.fixture(scope="module")
def run(task, step):
    """The states before and after each of four steps, and the metrics of each step."""
    states, logged = [beginning(task)], []
    for seed in range(4):
        state, metrics = step(states[-1], make_batch(seed=seed), task.phase_of(seed))
        states.append(state)
        logged.append({name: float(value) for name, value in metrics.items()})
    return states, logged


def loss_of(task):
    """The loss of a step, without its gradient."""
    return eqx.filter_jit(
        lambda state, batch, phase, key: task.step(state, batch, key=key, phase=phase)[1][
            "duration" if phase else "second"
        ]
    )


def leaves_of(tree):
    return jax.tree.leaves(eqx.filter(tree, eqx.is_array))


def same(left, right):
    """Whether all arrays are equal bit for bit."""
    return all(np.array_equal(a, b) for a, b in zip(leaves_of(left), leaves_of(right), strict=True))


PARTS = ("acoustic", "durations")


@pytest.mark.slow
def test_each_phase_updates_its_own_network_only(run):
    states, (first, second) = run[0], PARTS
    for before, after, learning in zip(states, states[1:], (first, first, second, second), strict=False):
        for part in PARTS:
            for field in ("model", "model_state", "optimizer_state", "average", "average_state"):
                learners = getattr(before, part), getattr(after, part)
                arrays = [getattr(learner, field) for learner in learners]
                kept = same(*arrays) if leaves_of(arrays) else part != learning
                assert kept == (part != learning), (part, field)


def test_metrics_of_each_phase(run):
    states, logged = run
    assert set(logged[1]) == {"first", "second", "gradient_norm", "learning_rate", "sigma", "batch_norm_mean"}
    width = math.exp(float(states[1].acoustic.model.upsampling.log_sigma))
    assert logged[1]["sigma"] == pytest.approx(width, rel=1e-6) and abs(width - 1) > 1e-3
    norms = states[2].acoustic.model_state
    means = [norm.running_mean for group in (norms.encoder, norms.decoder, norms.postnet) for norm in group]
    assert logged[1]["batch_norm_mean"] == pytest.approx(max(float(mean.max()) for mean in means), rel=1e-6)
    assert set(logged[3]) == {"duration", "gradient_norm", "learning_rate"}
    for number, metrics in enumerate(logged):
        assert metrics["learning_rate"] == pytest.approx(RATE * DECAY ** (number % 2), rel=1e-5)


def test_sigma_metric_is_the_mean():
    upsampling = GaussianUpsampling(4, UpsamplingConfig("proportional", 0.5), key=jax.random.key(0))
    durations = jnp.asarray([[2.0, 4.0, 0.0], [6.0, 9.0, 9.0]])
    found = eqx.filter_jit(upsampling.mean_sigma)(jnp.zeros((2, 3, 4)), durations, phone_count=jnp.asarray([2, 1]))
    assert float(found) == pytest.approx(0.5 * (2 + 4 + 6) / 3)


def test_losses_and_statistics_are_independent_of_padding(step, run):
    """Four utterances give the same losses in a batch of four and in one with four empty rows, with any padding."""
    four = make_batch(rows=4)
    twice = UtteranceBatch(*(np.concatenate([a, a]) for a in four))
    once = UtteranceBatch(*(np.concatenate([a, np.zeros_like(a)]) for a in four))
    unheard = np.arange(once.mel.shape[2]) >= once.frame_count[:, None]
    unsaid = np.arange(once.phonemes.shape[1]) >= once.phone_count[:, None]
    assert unheard[:4].any() and unsaid[:4].any()
    noisy = once._replace(
        mel=np.where(unheard[:, None], np.float32(50), once.mel),
        phonemes=np.where(unsaid, np.int32(3), once.phonemes),
        durations=np.where(unsaid, np.float32(5), once.durations),
    )
    for phase, losses in enumerate((("first", "second"), ("duration",))):
        expected, metrics = step(run[0][2], twice, phase)
        for batch in (once, noisy):
            state, found = step(run[0][2], batch, phase)
            for name in (*losses, "gradient_norm"):
                assert float(found[name]) == pytest.approx(float(metrics[name]), rel=1e-4), name
            norms = zip(leaves_of(state.acoustic.model_state), leaves_of(expected.acoustic.model_state), strict=True)
            # Unbiased variances know how many positions they are of.
            assert all(np.allclose(a, b, rtol=0.01, atol=1e-5) for a, b in norms)


def test_training_reduces_the_loss(step, run):
    state, losses = run[0][0], []
    batch = make_batch()
    for _ in range(60):
        state, metrics = step(state, batch, 0)
        losses.append(float(metrics["second"]))
    assert losses[-1] < 0.7 * losses[0]
    durations = []
    for _ in range(60):
        state, metrics = step(state, batch, 1)
        durations.append(float(metrics["duration"]))
    assert durations[-1] < 0.5 * durations[0]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "part"), [(0, "acoustic"), (2, "durations")], ids=["acoustic", "durations"])
def test_eight_devices_equal_one_device(task, run, number, part):
    states, logged = run
    mesh, phase = data_mesh(), task.phase_of(number)
    arrays, static = eqx.partition(states[number], eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)

    @jax.jit
    def many_step(leaves, batch):
        state = eqx.combine(jax.tree.unflatten(structure, leaves), static)
        state, metrics = task.step(state, batch, key=jax.random.key(0), phase=phase)
        return leaves_of(getattr(state, part)), metrics

    many, found = many_step(replicate(leaves, mesh), shard_batch(make_batch(seed=number), mesh))
    for name, value in logged[number].items():
        assert float(found[name]) == pytest.approx(value, rel=1e-5), name
    for ours, theirs in zip(many, leaves_of(getattr(states[number + 1], part)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("phase", [0, 1])
def test_dropout_depends_on_the_key_of_the_step(phase):
    dropping = changed(
        CONFIG.model, encoder={"dropout": 0.1}, decoder={"dropout": 0.1}, durations={"dropout": 0.5, "layers": 2}
    )
    task = task_of(model=dropping)
    loss, state, batch = loss_of(task), beginning(task), make_batch()

    losses = [float(loss(state, batch, phase, step_key(3, number))) for number in (0, 1, 2, 1)]
    assert losses.pop() == losses[1] and len(set(losses)) == 3
    assert max(losses) - min(losses) > 1e-3 * max(losses)


def products(program: str) -> list[tuple[str, ...]]:
    """The element types of the inputs of each matrix product and convolution in a lowered program."""
    lines = [line for line in program.splitlines() if re.search(r"stablehlo\.(dot_general|convolution)", line)]
    return [tuple(re.findall(r"tensor<(?:\d+x)*(\w+)>", line.split(" : ")[-1])[:2]) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
def test_bfloat16_training_is_close_to_float32(task, run, number):
    states, logged = run
    low, batch, phase = task_of(precision="bfloat16"), make_batch(seed=number), task.phase_of(number)
    types = []

    @eqx.filter_jit
    def metrics_of(state, batch):  # no update is computed, but its types are known
        after, metrics = low.step(state, batch, key=jax.random.key(0), phase=phase)
        types.extend(leaf.dtype for leaf in leaves_of(after))
        return metrics

    lowered = metrics_of.lower(states[number], batch)
    found = lowered.compile()(states[number], batch)
    assert types == [leaf.dtype for leaf in leaves_of(states[number])]
    for name, value in logged[number].items():
        exact = name in ("sigma", "learning_rate")
        assert float(found[name]) == pytest.approx(value, rel=1e-6 if exact else 0.03), name
    losses = {"first", "second", "duration"} & set(found)
    assert any(float(found[name]) != logged[number][name] for name in losses)
    kinds = products(lowered.as_text())
    wide = [kind for kind in kinds if kind != ("bf16", "bf16")]
    assert len(kinds) > 20
    assert len(wide) <= (0 if phase else 4), "only gradients through the softmax are float32"


@pytest.mark.parametrize(("phase", "field"), [(0, "mel"), (1, "durations")])
def test_nonfinite_batches_change_the_counters_only(step, run, phase, field):
    before, batch = run[0][2], make_batch()
    getattr(batch, field)[0, 0] = np.nan
    after, _ = step(before, batch, phase)
    assert all(same(getattr(after, part), getattr(before, part)) for part in PARTS)
    assert (int(after.counters.step), int(after.counters.skipped)) == (3, 1)
    _, metrics = step(after, make_batch(), phase)
    assert float(metrics["learning_rate"]) == pytest.approx(RATE * DECAY ** (0 if phase else 2), rel=1e-5)


LOG_MEL = np.linspace(-11, 0, 24, dtype=np.float32).reshape(8, 3)


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (np.full((8, 3), np.nan, np.float32), "24 values that are NaN or infinite"),
        (np.full((8, 3), -np.inf, np.float32), "24 values that are NaN or infinite"),
        (LOG_MEL[:4], "has 4 bands; it should have 8"),
        (LOG_MEL.T, r"shape \(3, 8\); it should be \(8, frames\)\. It is transposed"),
        (LOG_MEL[:, :0], "at least one frame"),
        (np.exp(LOG_MEL), "looks linear, not logarithmic"),
        (LOG_MEL.astype(np.int32), "dtype int32; it should be a float dtype"),
    ],
)
def test_batch_of_invalid_mels_raises_an_error(task, mel, message):
    with pytest.raises(MelError, match=f"^Utterance 2 of the batch: .*{message}"):
        task.batch(["P1 P2", "P1 P2"], [[1, 2], [1, 2]], [LOG_MEL, mel])


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        ([4, -1], "duration of phoneme 2 is -1; it should be at least 1"),
        ([3, 0], "duration of phoneme 2 is 0; it should be at least 1"),
        ([1.5, 1.5], "durations has type float64; it should be whole numbers"),
        ([3], r"durations has shape \(1,\); it should have shape \(2,\)"),
        ([[1], [2, 3]], "durations has type object; it should be whole numbers"),
        ([2, 2], "sum of the durations is 4 frames; it should be 3"),
    ],
)
def test_batch_of_invalid_durations_raises_an_error(task, durations, message):
    with pytest.raises(ShapeError, match=f"^Utterance 1 of the batch: .*{message}"):
        task.batch(["P1 P2"], [durations], [LOG_MEL])


@pytest.mark.parametrize(
    ("utterances", "error", "message"),
    [
        (([], [], []), ShapeError, "phonemes is a list of 0, durations has 0 items .* at least one item"),
        ((["P1 P2"], [[1, 2]], [LOG_MEL] * 2), ShapeError, "list of 1, durations has 1 items and mels has 2;"),
        (("P", [[3]], [LOG_MEL]), ShapeError, "phonemes is a string"),
        (([""], [[]], [LOG_MEL]), TextError, "phonemes is empty"),
        ((["P1 P99"], [[1, 2]], [LOG_MEL]), TextError, "'P99' .phoneme 2. is not in the phone set"),
    ],
)
def test_batch_of_invalid_utterances_raises_an_error(task, utterances, error, message):
    with pytest.raises(error, match=message):
        task.batch(*utterances)


def test_duration_loss_is_configurable(run):
    squared = loss_of(task_of(duration_loss="mse"))(run[0][2], make_batch(seed=2), 1, jax.random.key(0))
    # The squared error is twice the Huber loss for differences below 1, and more above.
    assert float(squared) > 2.1 * run[1][2]["duration"]


def test_saved_model_is_the_moving_average(task, run, tmp_path):
    state = run[0][4]
    task.save_model(state, tmp_path)
    network, config = FAMILY.load_network(tmp_path)
    assert same(network.acoustic, state.acoustic.average) and same(network.batch_norm, state.acoustic.average_state)
    assert same(network.durations, state.durations.model) and config == CONFIG.model


def test_learning_rates_equal_the_published_schedules():
    assert acoustic_optimizer(256, 4000).learning_rate == pytest.approx(9.88e-4, rel=1e-3)
    durations = learning_rate(duration_optimizer(), steps_per_epoch=1)
    assert float(durations(0)) == pytest.approx(1e-3) and float(durations(3999)) == pytest.approx(1e-4, rel=0.03)
    for steps in (500, 4000, 20_000):
        optimizer = duration_optimizer(round(steps / 76))
        assert decays_to(1e-4, optimizer, steps_per_epoch=1) == pytest.approx(steps, rel=0.1)


@pytest.mark.parametrize("family", [gaussian_tts, hifigan])
def test_presets_are_found_by_name(family):
    assert [family.preset(name) for name in family.PRESETS] == list(family.PRESETS.values())
    with pytest.raises(ConfigError, match=f"preset is 'v9'; it should be one of {', '.join(family.PRESETS)}"):
        family.preset("v9")


def test_invalid_settings_raise_an_error():
    with pytest.raises(ConfigError, match="ema_decay"):
        TrainingConfig(ema_decay=1.0)
    with pytest.raises(ConfigError, match="acoustic_steps"):
        TrainingConfig(acoustic_steps=-1)
    with pytest.raises(ConfigError, match="duration_loss"):
        TrainingConfig(duration_loss="l3")  # pyright: ignore[reportArgumentType]
