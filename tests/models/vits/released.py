"""Weights of the golden cases of coqui's VITS, comparisons with their results, and small released checkpoints."""

import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import torch

from experiments.benchmarks import torch_vits
from experiments.benchmarks.torch_hifigan import load_arrays
from jaxvoice.models.vits import preset
from jaxvoice.models.vits.weights import discriminator_shapes, vits_shapes
from jaxvoice.text import VITS_SYMBOLS
from jaxvoice.weights import load_state
from tests.models.vits.small import SMALL
from tests.random_networks import random_arrays


def renamed(name):
    """The name of jaxvoice for a tensor of the release: the older spelling of weight norm."""
    spellings = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
    for theirs, ours in spellings.items():
        name = name.replace(theirs, ours)
    return name


def released_state(case, prefix=""):
    """The weights of a case under the names of jaxvoice, without `prefix`."""
    return {renamed(name): value for name, value in case.state_dict(strip=prefix).items()}


def load(case, make, config, prefix):
    return load_state(eqx.filter_eval_shape(make, config, key=jax.random.key(0)), released_state(case, f"{prefix}."))


def assert_close(found, case, name):
    """Equal within ten times the rounding of the case, or 1e-5, relative to the largest value."""
    expected = case[name]
    tolerance = max(10 * case.meta["rounding"][name], 1e-5) * max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def last(array):
    """An array of torch, `(batch, channels, time)`, with channels last."""
    return np.swapaxes(array, 1, 2)


def linear_spectrogram(audio):
    """The magnitudes `(frames, 513)` of `audio`, computed with numpy in float64."""
    padded = np.pad(audio.astype(np.float64), 384, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::256]
    spectra = np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)))
    return np.sqrt(np.abs(spectra) ** 2 + 1e-6).astype(np.float32)


DECODER = {
    "resblock": "2",
    "upsample_rates": (8, 8, 4),
    "upsample_kernel_sizes": (16, 16, 8),
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": (3,),
    "resblock_dilation_sizes": ((1,),),
}
ORIGINAL = {
    "train": {"segment_size": 1024},
    "data": {
        "sampling_rate": 22050,
        "filter_length": 1024,
        "hop_length": 256,
        "win_length": 1024,
        "n_mel_channels": 80,
        "mel_fmin": 0.0,
        "mel_fmax": None,
        "add_blank": True,
        "n_speakers": 3,
    },
    "model": {
        "inter_channels": 8,
        "hidden_channels": 8,
        "filter_channels": 12,
        "n_heads": 2,
        "n_layers": 1,
        "kernel_size": 3,
        "p_dropout": 0.1,
        "gin_channels": 10,
        **{name: value for name, value in DECODER.items() if name != "resblock_dilation_sizes"},
        "resblock_dilation_sizes": [[1, 3]],
    },
}


def torch_network(*, stochastic=True, dilations=((1, 3),)):
    network = torch_vits.VITS(
        channels=8,
        hidden=12,
        layers=1,
        window=2,
        posterior_layers=2,
        flow_layers=2,
        flows=2,
        stochastic=stochastic,
        duration_channels=6,
        duration_flows=2,
        spline_bins=4,
        speakers=3,
        cond=10,
        decoder={**DECODER, "resblock_dilation_sizes": dilations},
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    load_arrays(network, random_arrays(shapes))
    return network.eval()


def original_checkpoint(folder, network, *, discriminators=True):
    """The files `G_10.pth`, `D_10.pth` and `config.json`."""
    torch.save({"model": network.state_dict(), "iteration": 10, "learning_rate": 2e-4}, folder / "G_10.pth")
    if discriminators:
        shapes = {
            name.replace("disc.nets", "discriminators"): shape
            for name, shape in discriminator_shapes(ORIGINAL_CONFIG).items()
        }
        state = {name: torch.from_numpy(array) for name, array in random_arrays(shapes, 1).items()}
        torch.save({"model": state}, folder / "D_10.pth")
    (folder / "config.json").write_text(json.dumps(ORIGINAL), encoding="utf-8")


ORIGINAL_CONFIG = dataclasses.replace(
    SMALL,
    symbols=VITS_SYMBOLS,
    num_speakers=3,
    languages=(),
    decoder=dataclasses.replace(SMALL.decoder, resblock_dilation_sizes=((1, 3),)),
    discriminators=preset("ljspeech").discriminators,
)


def coqui_config():
    return {
        "model": "vits",
        "model_args": {
            "num_chars": 39,
            "hidden_channels": 8,
            "num_layers_text_encoder": 1,
            "hidden_channels_ffn_text_encoder": 12,
            "spec_segment_size": 4,
            "use_sdp": True,
            "use_d_vector_file": True,
            "d_vector_dim": 10,
            "use_language_embedding": True,
            "embedded_language_dim": 4,
            "resblock_type_decoder": "2",
            "resblock_kernel_sizes_decoder": [3],
            "resblock_dilation_sizes_decoder": [[1, 3, 5]],
            "upsample_rates_decoder": [8, 8, 4],
            "upsample_kernel_sizes_decoder": [16, 16, 8],
            "upsample_initial_channel_decoder": 16,
            "periods_multi_period_discriminator": [2, 3],
            "inference_noise_scale": 0.5,
            "inference_noise_scale_dp": 0.6,
        },
        "audio": {"sample_rate": 16000, "fft_size": 1024, "hop_length": 256, "win_length": 1024, "mel_fmax": None},
        "characters": {
            "characters_class": "TTS.tts.models.vits.VitsCharacters",
            "pad": "_",
            "punctuations": "!'(),-.:;? ",
            "characters": "abcdefghijklmnopqrstuvwxyz",
            "phonemes": "",
        },
        "add_blank": True,
        "text_cleaner": "multilingual_cleaners",
        "datasets": [{"language": "pt"}, {"language": "en"}],
    }


COQUI = dataclasses.replace(
    SMALL,
    mel=dataclasses.replace(SMALL.mel, sample_rate=16000),
    discriminators=dataclasses.replace(SMALL.discriminators, width=1.0),
    decoder=dataclasses.replace(SMALL.decoder, resblock_dilation_sizes=((1, 3),)),
    sampling=dataclasses.replace(SMALL.sampling, noise_scale=0.5, duration_noise_scale=0.6),
    languages=("pt", "en"),
)


def coqui_state(spelling="hooks", *, discriminators=True, extras=True):
    """The state dict of a checkpoint of coqui with the sizes of `COQUI`."""
    arrays = random_arrays(vits_shapes(COQUI), 5)
    if discriminators:
        arrays |= random_arrays(discriminator_shapes(COQUI), 6)
    if spelling == "parametrizations":
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            arrays = {
                name.replace(f".{old}", f".parametrizations.weight.{new}"): array for name, array in arrays.items()
            }
    if extras:
        arrays["speaker_encoder.conv1.weight"] = np.ones((2, 1, 3, 3), np.float32)
        arrays["audio_resampler.kernel"] = np.ones(3, np.float32)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def coqui_bundle(folder, state, *, config=None, languages=True):
    folder.mkdir(exist_ok=True)
    torch.save({"model": state, "step": 7, "optimizer": [{"state": {0: torch.ones(2)}}]}, folder / "model_file.pth")
    (folder / "config.json").write_text(json.dumps(config or coqui_config()), encoding="utf-8")
    if languages:
        (folder / "language_ids.json").write_text('{"en": 1, "pt": 0}', encoding="utf-8")
    clips = {
        "vctk#a": {"name": "p1", "embedding": [1.0] * 10},
        "vctk#b": {"name": "p1", "embedding": [3.0] * 10},
        "vctk#c": {"name": "p2", "embedding": [5.0] * 10},
    }
    (folder / "speakers.json").write_text(json.dumps(clips), encoding="utf-8")
    return folder
