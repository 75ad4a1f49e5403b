"""Training runs of the configurations of the release, whose saved models are loaded by the pipeline."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest
from jax import numpy as jnp

import jaxvoice
from jaxvoice.data import AudioCrops, Loader
from jaxvoice.losses import spectral_distance
from jaxvoice.models.rave import RaveConfig, RaveTask, Validation, training_preset
from jaxvoice.training import LoopConfig, fit
from jaxvoice.training.parallel import data_mesh
from jaxvoice.weights import named_arrays
from tests.models.rave.test_rave_training import store_of

SAMPLES = 32768


def tiny(config: RaveConfig) -> RaveConfig:
    """`config` with few channels and one layer per stage, and discriminators of the same kind."""
    bottleneck = {"latent_size": 4}
    if config.bottleneck.noise_channels:
        bottleneck["noise_channels"] = 2
    if config.bottleneck.kind == "discrete":
        bottleneck |= {"num_quantizers": 2, "codebook_size": 4, "kmeans_iterations": 5}
    discriminators = {
        "capacity": 1,
        "scales": 1,
        "periods": (2,),
        "fft_sizes": (256,),
        "spectral_channels": 2,
        "period_channels": (2, 2),
    }
    parts = {
        "encoder": {"capacity": 4, "dilations": ((1,),) * len(config.encoder.ratios)},
        "generator": {"capacity": 4, "dilations": ((1,),) * len(config.generator.ratios)},
        "bottleneck": bottleneck,
        "discriminators": discriminators,
    }
    changed = {name: dataclasses.replace(getattr(config, name), **values) for name, values in parts.items()}
    return dataclasses.replace(config, **changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v3", "hybrid", "spherical", "discrete", "wasserstein"])
def test_trained_model_is_loaded_by_the_pipeline(name, tmp_path):
    """After a step of each kind. The loaded model has the distance that the validation of the run measured."""
    preset = training_preset(name)
    config = dataclasses.replace(
        preset,
        model=tiny(preset.model),
        phase_1_steps=1,
        update_discriminator_every=2,
        crop_to_valid=False,
        segment_size=SAMPLES,
    )
    assert [config.step_kind(step).mode for step in range(3)] == ["reconstruction", "generator", "discriminators"]
    rate = config.model.sample_rate
    train, held_out = store_of(2 * SAMPLES, SAMPLES, rate=rate), store_of(SAMPLES, rate=rate)
    loop = LoopConfig(steps=4, best_metric="spectral_distance", tensorboard=False)
    with Loader(train, AudioCrops(2, SAMPLES, rate)) as loader:
        validation = Validation(held_out, config, samples=1)
        task = RaveTask(config, steps_per_epoch=loader.steps_per_epoch, validation=validation)
        first = eqx.filter_jit(lambda key: task.init(key=key))(jax.random.key(0))
        before = {name: np.array(array) for name, array in named_arrays(first.networks.model).items()}
        result = fit(
            task,
            loader,
            loop,
            tmp_path / "run",
            initial_state=lambda: first,
            mesh=data_mesh(jax.devices()[:1]),
        )
    assert result.step == 4 and result.skipped == 0
    rave = jaxvoice.Rave.load(tmp_path / "run")
    assert rave.config == config.model and rave.quantizes == (name == "discrete")
    audio = held_out.waveform(0)
    heard = rave.transfer(audio, rate)
    target, found = (jnp.asarray(signal)[:, None] for signal in (audio, heard))
    distance = spectral_distance(target, found, scales=config.scales, log_epsilon=config.log_epsilon)
    assert float(distance) == pytest.approx(result.metrics["spectral_distance"], rel=1e-3)
    after = named_arrays(rave.network)
    same = {key for key, array in before.items() if np.array_equal(array, after[key])}
    for part in ("encoder.", "decoder."):
        assert any(key.startswith(part) for key in before.keys() - same), part
    frames = np.asarray(rave.encode(audio, rate))
    assert frames.shape[1] == SAMPLES // config.model.hop_length
    assert len(np.unique(frames)) > 1
