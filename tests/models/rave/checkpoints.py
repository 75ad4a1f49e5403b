"""Checkpoints of RAVE as the release writes them, from models of jaxvoice."""

import equinox as eqx
import jax
import librosa
import numpy as np
import torch
from jax import numpy as jnp

from jaxvoice.models.rave import FAMILY, build_discriminators
from jaxvoice.models.rave.weights import FilterTaps, target_sizes
from jaxvoice.weights import load_state, named_arrays

MERGED = FAMILY.merged


def build(config):
    return FAMILY.build(config, key=jax.random.key(0))


def arrays_of(model):
    return {name: np.asarray(array) for name, array in named_arrays(model, merged=MERGED).items()}


def with_components(model):
    """`model` with principal components that differ from the identity."""
    size = model.state.latent_mean.size
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((size, size)))
    values = (rotation, np.linspace(-1, 1, size), np.linspace(0.5, 1, size))
    return eqx.tree_at(
        lambda m: (m.state.latent_pca, m.state.latent_mean, m.state.fidelity),
        model,
        tuple(jnp.asarray(value, jnp.float32) for value in values),
    )


def taps_of(arrays):
    return FilterTaps(arrays["pqmf.h"].size, arrays["pqmf.hk"].shape[1])


def tensors_of(arrays):
    """`arrays` in torch, with whole numbers of 64 bits."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    return {name: tensor.long() if tensor.dtype == torch.int32 else tensor for name, tensor in tensors.items()}


def checkpoint(arrays, **more):
    """A checkpoint of Lightning with `arrays`, caches of streaming, discriminators and optimisers."""
    tensors = tensors_of(arrays)
    extra = {
        "encoder.encoder.net.0.cache.pad": torch.zeros(8, 1, 6),
        "decoder.net.2.cache": torch.zeros(64, 2, 1),
        "encoder.encoder.net.1.aligned.paddings.0.pad": torch.zeros(64, 4, 2),
        "discriminator.layers.0.weight": torch.full((2, 2), torch.nan),
        "audio_distance.multiscale_stft.stfts.0.window": torch.ones(8),
    }
    state = {"exp_avg": torch.zeros(3), "step": torch.tensor(2.0)}
    return {
        "epoch": 3,
        "global_step": 1200,
        "pytorch-lightning_version": "1.9.0",
        "state_dict": {**tensors, **extra},
        "optimizer_states": [{"state": {0: state}, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
        "lr_schedulers": [],
        "callbacks": {"WarmupCallback": {"training_steps": 1200}, **more},
    }


def gin_of(config, **changes):
    """The `config.gin` of a run with `config`."""
    values = {
        "SAMPLING_RATE": config.sample_rate,
        "model.RAVE.sampling_rate": "%SAMPLING_RATE",
        "model.RAVE.latent_size": config.bottleneck.latent_size,
        "model.RAVE.n_channels": config.n_channels,
        "model.RAVE.input_mode": repr(config.encoder.input),
        "model.RAVE.output_mode": repr(config.generator.output),
        "pqmf.CachedPQMF.attenuation": config.pqmf.attenuation,
        "pqmf.CachedPQMF.n_band": config.pqmf.num_bands,
        "cc.get_padding.mode": repr(config.padding),
    }
    kinds = {"variational": "VariationalEncoder", "wasserstein": "WasserteinEncoder"}
    kinds |= {"spherical": "SphericalEncoder", "discrete": "DiscreteEncoder"}
    values["model.RAVE.encoder"] = f"@blocks.{kinds[config.bottleneck.kind]}"
    for part, owner in (("encoder", "Encoder"), ("generator", "Generator")):
        sizes, version = getattr(config, part), "V2" if getattr(config, part).version == "v2" else ""
        values[f"blocks.{owner}{version}.capacity"] = sizes.capacity
        values[f"blocks.{owner}{version}.ratios"] = list(sizes.ratios)
        if version:
            values[f"blocks.{owner}{version}.dilations"] = [list(stage) for stage in sizes.dilations]
    if config.encoder.input == "mel":
        values["transforms.MelSpectrogram.n_fft"] = config.encoder.mel.n_fft
        values["transforms.MelSpectrogram.hop_length"] = config.encoder.mel.hop_length
        values["transforms.MelSpectrogram.n_mels"] = config.encoder.mel.num_mels
    return "".join(f"{name} = {value}\n" for name, value in {**values, **changes}.items() if value is not None)


def training_arrays(config, seed=3):
    """Random discriminators, and the windows of the losses."""
    random = np.random.default_rng(seed)
    discriminators = eqx.filter_eval_shape(
        build_discriminators, config.discriminators, config.n_channels, key=jax.random.key(0)
    )
    shapes = {f"discriminator.{name}": array.shape for name, array in named_arrays(discriminators).items()}
    arrays = {name: random.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    windows = {
        f"{part}audio_distance.multiscale_stft.stfts.{i}.window": size
        for part in ("", "multiband_")
        for i, size in enumerate((2048, 1024, 512, 256, 128))
    }
    if config.discriminators.kind == "descript":
        first = len(config.discriminators.periods)
        windows |= {
            f"discriminator.discriminators.{i}.stft.window": size
            for i, size in enumerate(config.discriminators.fft_sizes, first)
        }
    arrays |= {name: torch.hann_window(size).numpy() for name, size in windows.items()}
    if config.encoder.input == "mel":
        size, mels = config.encoder.mel.n_fft, config.encoder.mel.num_mels
        arrays["spectrogram.spectrogram.window"] = torch.hann_window(size).numpy()
        filters = librosa.filters.mel(sr=config.sample_rate, n_fft=size, n_mels=mels, htk=True, norm=None).T
        # With rounding of its own, so that values which are computed again differ.
        arrays["spectrogram.mel_scale.fb"] = (filters + random.uniform(0, 1e-5, filters.shape)).astype(np.float32)
    return arrays


def run_of(folder, model, config, *, gin=None, training=None, **more):
    """A run of the release with one checkpoint.

    `training` are its discriminators and windows; by default, the discriminators have another structure.
    """
    checkpoints = folder / "run" / "version_0" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (folder / "run" / "config.gin").write_text(gin_of(config) if gin is None else gin, encoding="utf-8")
    sizes = {name: np.asarray(size, np.int64) for name, size in target_sizes(config).items()}
    content = checkpoint(arrays_of(model) | sizes, **more)
    if training is not None:
        names = [name for name in content["state_dict"] if "discriminator" in name or "distance" in name]
        content["state_dict"] = {n: t for n, t in content["state_dict"].items() if n not in names}
        content["state_dict"] |= tensors_of(training)
    torch.save(content, checkpoints / "best.ckpt")
    return folder / "run"


def discriminators_with(config, arrays):
    """The discriminators of `training_arrays`."""
    prefix = "discriminator."
    skeleton = eqx.filter_eval_shape(
        build_discriminators, config.discriminators, config.n_channels, key=jax.random.key(0)
    )
    names = [name for name in arrays if name.startswith(prefix) and not name.endswith(".window")]
    return load_state(skeleton, {name.removeprefix(prefix): arrays[name] for name in names})
