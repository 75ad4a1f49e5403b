"""The pipeline of the DVAE of XTTS: shapes, rates and errors."""

import equinox as eqx
import numpy as np
import pytest

from jaxvoice.dsp import power_mel
from jaxvoice.errors import AudioError, ConfigError
from jaxvoice.models.xtts_dvae import FAMILY, CodecNetwork
from jaxvoice.pipelines.xtts_codec import Codec
from tests.models.xtts_dvae.small import SMALL
from tests.random_networks import random_network


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    network = random_network(CodecNetwork, SMALL)
    network = eqx.tree_at(lambda one: one.mel_stats, network, np.linspace(2, 4, 10, dtype=np.float32))
    FAMILY.save_network(folder, network, SMALL)
    return Codec.load(folder)


def test_codes_are_those_of_the_normalised_mel(codec):
    audio = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    mel = np.log(np.maximum(power_mel(audio, SMALL.mel), 1e-5)).T / np.linspace(2, 4, 10, dtype=np.float32)
    expected = eqx.filter_jit(lambda network, mel: network.dvae.encode(mel))(codec.network, mel)
    codes = codec.encode(audio, 22050)
    np.testing.assert_array_equal(codes, expected)
    assert len(codes) == 9  # 9000 // 256 + 1 frames, divided by 4 and rounded up
    decoded = codec.decode(codes)
    assert decoded.shape == (10, 36)
    plain = eqx.filter_jit(lambda network, codes: network.dvae.decode(codes))(codec.network, codes)
    np.testing.assert_allclose(decoded, (np.asarray(plain) * np.linspace(2, 4, 10)).T, rtol=1e-5)


def test_recordings_of_other_rates_are_resampled(codec):
    audio = np.random.default_rng(0).normal(0, 0.1, 8192).astype(np.float32)
    assert len(codec.encode(audio, 44100)) == len(codec.encode(audio[:4096], 22050)) == 5


def test_wrong_arguments_raise_errors(codec):
    with pytest.raises(AudioError, match="silent"):
        codec.encode(np.zeros(9000, np.float32), 22050)
    for codes in ([16], [-1], [], [[0]], [0.5]):
        with pytest.raises(ConfigError, match="whole numbers from 0 to 15"):
            codec.decode(np.asarray(codes))
