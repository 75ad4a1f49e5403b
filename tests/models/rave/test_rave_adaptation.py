"""Statistics of adaptive instance norms that are measured on recordings, compared with torch."""

import numpy as np
import pytest
import torch

from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.pipelines import Rave
from jaxvoice.weights import named_arrays
from tests.models.rave import torch_modules
from tests.models.rave.checkpoints import arrays_of, taps_of
from tests.models.rave.released import largest_error
from tests.models.rave.small import CONFIGS, SMALL, random_model

WINDOW = 32


def noise(frames, seed, scale):
    count = frames * SMALL.hop_length + 5
    return np.random.default_rng(seed).uniform(-scale, scale, count).astype(np.float32)


def through(model, audio):
    """The latents' means, and the audio that they are decoded to."""
    with torch.no_grad():
        latents = model.encoder(model.pqmf.analysis(torch.from_numpy(audio)[None, None]))[
            :, : SMALL.bottleneck.latent_size
        ]
        return model.pqmf.synthesis(model.decoder(latents))[0, 0].numpy()


def test_statistics_and_their_effect_equal_torch():
    config = CONFIGS["v3"]
    model = random_model(config)
    rave = Rave(model, config, window=WINDOW)
    # Two windows, and one.
    source, target = noise(2 * WINDOW, 0, 0.2), noise(WINDOW, 1, 0.7)
    adapted = rave.with_statistics(source=source, target=target, sample_rate=config.sample_rate)
    found = {name: np.asarray(array) for name, array in named_arrays(adapted.state).items()}

    arrays = arrays_of(model)
    taps = taps_of(arrays)
    theirs = torch_modules.load(torch_modules.Model(config, (taps.prototype, taps.padded)), arrays)
    inputs = {}
    for name, module in theirs.named_modules():
        if isinstance(module, torch_modules.AdaIN):
            module.register_forward_pre_hook(lambda _, given, name=name: inputs.setdefault(name, []).append(given[0]))
    length = WINDOW * config.hop_length
    for side, pieces in (("x", (source[:length], source[length : 2 * length])), ("y", (target[:length],))):
        inputs.clear()
        for piece in pieces:
            through(theirs, piece)
        assert len(inputs) == 6
        for name, given in inputs.items():
            for statistic in ("mean", "std"):
                expected = np.mean([getattr(one[0], statistic)(-1).numpy() for one in given], axis=0)
                measured = found[f"{name}.{statistic}_{side}"]
                np.testing.assert_allclose(measured[..., 0], np.tile(expected, (64, 1)), rtol=1e-3, atol=1e-4)
            assert found[f"{name}.num_update_{side}"] == len(pieces)

    changed = torch_modules.load(
        torch_modules.Model(config, (taps.prototype, taps.padded)), arrays | {n: found[n] for n in found if n in arrays}
    )
    audio = noise(20, 2, 0.2)[: 20 * config.hop_length]
    converted = adapted.transfer(audio, config.sample_rate)
    assert largest_error(converted, through(changed, audio)) < 1e-4
    # One side alone has no effect.
    half = rave.with_statistics(target=target, sample_rate=config.sample_rate).transfer(audio, config.sample_rate)
    np.testing.assert_array_equal(half, rave.transfer(audio, config.sample_rate))
    assert largest_error(converted, half) > 0.1


def test_recordings_and_models_without_statistics_raise_an_error():
    with pytest.raises(ConfigError, match="no adaptive instance norms"):
        Rave(random_model(), SMALL).with_statistics(target=noise(2, 0, 0.1), sample_rate=SMALL.sample_rate)
    with pytest.raises(AudioError, match="The target is silent"):
        Rave(random_model(), SMALL).with_statistics(target=np.zeros(64, np.float32), sample_rate=SMALL.sample_rate)
