"""The speakers of the demo corpus."""

from dataclasses import dataclass

from jaxvoice.errors import ConfigError


@dataclass(frozen=True)
class Voice:
    """One speaker: an espeak-ng voice (language, `+` variant), rate in words a minute, pitch, pitch range (0-100)."""

    speaker: str
    espeak: str
    rate: int = 160
    pitch: int = 50
    pitch_range: int = 50

    def __post_init__(self):
        if not self.speaker or "|" in self.speaker:
            raise ConfigError(f"A speaker's name should be some text without '|', got {self.speaker!r}.")
        if not 80 <= self.rate <= 450:
            raise ConfigError(
                f"The rate of voice {self.speaker!r} should be 80 to 450 words a minute, got {self.rate}."
            )
        for name in ("pitch", "pitch_range"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigError(f"{name} of voice {self.speaker!r} should be 0 to 100, got {getattr(self, name)}.")


# None of them has an echo, which would fill the closures by which timings are repaired.
VOICES = (
    Voice("us-middle", "en-us"),
    Voice("us-high", "en-us+f1", pitch=45),
    Voice("us-low", "en-us+m3", rate=150, pitch=35),
    Voice("gb-middle", "en-gb-x-rp", rate=155, pitch=45),
    Voice("scotland-high", "en-gb-scotland+f1", rate=155, pitch=65),
)
