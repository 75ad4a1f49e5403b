"""Compilation before the first call, measured by the number of compiled programs."""

import dataclasses

import jax
import pytest

from jaxvoice.errors import ConfigError
from jaxvoice.models.gaussian_tts import Statistics
from jaxvoice.pipelines import HiFiGANVocoder, Synthesizer
from jaxvoice.text import ALIGNED
from tests.models.gaussian_tts.small import changed, networks
from tests.pipelines.conftest import loud_generator, small_config
from tests.pipelines.test_synthesizer import MEL, filled_norms, synthesizer


@pytest.fixture
def compiled():
    """A list that grows by one event for each compiled program."""
    names = []

    def listen(event, *_, **__):
        if event.endswith("backend_compile_duration"):
            names.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.slow
def test_speaking_after_warm_up_compiles_nothing(compiled):
    # No other test compiles programs of these sizes. The predicted durations are close to those of the corpus.
    config = dataclasses.replace(
        changed(encoder={"max_phones": 40}, decoder={"max_frames": 150}),
        codes=ALIGNED.codes,
        mel=MEL,
        statistics=Statistics(duration_mean=1.8, duration_std=0.2),
    )
    vocoder = HiFiGANVocoder(loud_generator(small_config()), small_config(), window=40)
    model = networks(config)
    speech = Synthesizer(model, filled_norms(model), config, vocoder)
    compiled.clear()
    speech.warm_up(longest=0.2)
    programs = len(compiled)
    assert 5 < programs < 30
    said = [speech.speak(text) for text in ("Hello.", "Hello, world.", "Hello, world of sounds.")]
    assert len(compiled) == programs, "the first call compiles nothing"
    assert len({len(one.audio) // 500 for one in said}) == 3
    speech.warm_up(longest=0.2)
    assert len(compiled) == programs


def test_warm_up_compiles_programs_up_to_the_longest(monkeypatch):
    said = []
    speech = synthesizer()
    monkeypatch.setattr(speech, "acoustic_inference", Spy(speech.acoustic_inference, said))
    speech.warm_up(longest=0.2)
    frames = [int(line.durations.sum()) for lines in said for line in lines]
    assert frames and max(frames) == 128 and min(frames) >= 16, "0.2 s are 100 frames"
    for settings in ({"longest": 0}, {"longest": -1.0}, {"longest": float("nan")}, {"batch": 0}):
        with pytest.raises(ConfigError, match=r"^(longest|batch) is .*; it should be (positive|at least 1)"):
            speech.warm_up(**settings)


class Spy:
    """An `acoustic_inference` that records its inputs."""

    def __init__(self, acoustic_inference, said):
        self._inference, self._said = acoustic_inference, said

    def __getattr__(self, name):
        return getattr(self._inference, name)

    def __call__(self, lines, **settings):
        self._said.append(lines)
        return self._inference(lines, **settings)
