"""Sources, networks and weights of the benchmark `conversion_speed`, for jaxvoice and torch."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from experiments.benchmarks import flops
from jaxvoice.dsp.pitch import pitch_features, track_pitch
from jaxvoice.models.hifivc.config import HiFiVCConfig

Preset = Literal["full", "tiny"]
PEAK = 0.5
"""Peak of the sources."""
Array = Float32[np.ndarray, "..."]


def source_of(config: HiFiVCConfig, seconds: float) -> Float32[np.ndarray, " samples"]:
    """A harmonic tone whose F0 varies between 105 and 150 Hz, with noise."""
    rate = config.content.mel.sample_rate
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(125 * 2 ** (0.25 * np.sin(3 * time))) / rate
    wave = sum(np.sin(number * phase) / number for number in range(1, 20))
    wave = wave + 0.05 * np.random.default_rng(0).standard_normal(len(time))
    return (PEAK * wave / np.abs(wave).max()).astype(np.float32)


def content_frames(config: HiFiVCConfig, seconds: float) -> int:
    """The number of content frames of a source."""
    frames = -(-round(seconds * config.content.mel.sample_rate) // config.content.mel.hop_length)
    return -(-frames // 4)


def noise(seed: int, *shape: int) -> Array:
    """Standard normal noise."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def f0_features(config: HiFiVCConfig, audio: Float32[np.ndarray, " samples"]) -> Float32[np.ndarray, "rows subframes"]:
    """What the pitch encoder reads, with four values for each content frame."""
    content = config.content
    frames = content_frames(config, len(audio) / content.mel.sample_rate)
    phase = config.decoder.harmonic_source
    return pitch_features(track_pitch(audio, content.mel.sample_rate, config.pitch), 4 * frames, phase=phase)


def given_pitch(config: HiFiVCConfig, seconds: float) -> Float32[np.ndarray, "rows subframes"]:
    """A log F0 that varies by 0.2, all voiced."""
    count = 4 * content_frames(config, seconds)
    return pitch_features(np.exp(4.8 + 0.2 * np.sin(0.03 * np.arange(count))), phase=config.decoder.harmonic_source)


def torch_networks(config: HiFiVCConfig) -> Any:
    """The networks of torch with their norms, with the same weights in every call."""
    import torch

    from experiments.benchmarks import torch_hifivc

    torch.manual_seed(0)
    networks = torch_hifivc.randomised(torch_hifivc.HiFiVC(config))
    with torch.no_grad():
        # With default weights, the output is almost silence.
        networks.get_parameter("decoder.conv_post.weight_g").mul_(4)
    return networks


def folded_networks(config: HiFiVCConfig) -> Any:
    """The networks of torch for inference."""
    from experiments.benchmarks.torch_hifivc import fold_norms

    return fold_norms(torch_networks(config))


def jaxvoice_networks(config: HiFiVCConfig, weights: Mapping[str, Any] | None) -> Any:
    """The networks of jaxvoice with the weights of torch, or with their own initial ones."""
    import equinox as eqx
    import jax

    from jaxvoice.models.hifivc import HiFiVC
    from jaxvoice.weights import load_state

    if weights is None:
        return eqx.filter_jit(HiFiVC)(config, key=jax.random.key(0))
    return load_state(network_shapes(config), weights)


def weights_of(config: HiFiVCConfig) -> dict[str, Any]:
    """The weights of torch under the names of jaxvoice: weight norms as they are, batch norms folded."""
    from experiments.benchmarks.torch_conformer import fold_batch_norm
    from experiments.benchmarks.torch_hifivc import arrays

    networks = torch_networks(config)
    fold_batch_norm(networks.content_encoder)
    return arrays(networks)


def apply(network: Any, x: Any) -> Any:
    """The output of a network of jaxvoice."""
    return network(x)


def decode(networks: Any, content: Any, pitch: Any, speaker: Any) -> Any:
    """The waveform of content features `(frames, channels)` and F0 features `(2, subframes)` in jaxvoice."""
    pitch_encoder, decoder = networks
    code = None if pitch_encoder is None else pitch_encoder(pitch.swapaxes(0, 1))
    return decoder(content, code, speaker)[..., 0]


def decoder_gflop(config: HiFiVCConfig, seconds: float) -> float:
    """The operations of pitch encoder and decoder for a source of so many seconds, in units of 10^9."""
    frames, networks = content_frames(config, seconds), network_shapes(config)
    pitch = noise(0, config.pitch_rows, 4 * frames)
    given = (noise(0, frames, config.content.dim), pitch, noise(0, config.speaker.size))
    return flops.traced_gflop(decode, (networks.pitch_encoder, networks.decoder), *given)


def network_shapes(config: HiFiVCConfig) -> Any:
    """The networks of jaxvoice with shapes instead of arrays."""
    import equinox as eqx
    import jax

    from jaxvoice.models.hifivc import HiFiVC

    return eqx.filter_eval_shape(HiFiVC, config, key=jax.random.key(0))
