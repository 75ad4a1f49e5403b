"""The configuration of XTTS: sizes of the networks, mel contracts and presets. Does not import jax."""

from dataclasses import dataclass, field, replace
from types import MappingProxyType

from jaxvoice.config import check_at_most, check_field, check_not_negative, check_positive, check_types, find_preset
from jaxvoice.dsp.mel_config import PowerMelConfig
from jaxvoice.errors import ConfigError
from jaxvoice.models.hifigan.config import GeneratorConfig, preset as find_vocoder
from jaxvoice.models.speaker_encoder.config import ResNetConfig, SpeakerEncoderConfig, preset as find_speaker_encoder
from jaxvoice.models.xtts_dvae.config import DVAE_MEL, DVAEConfig

PERCEIVER_MEL = replace(DVAE_MEL, n_fft=2048)
"""The mel spectrograms of references for models with a perceiver (XTTS v2)."""
FRAMES_MEL = replace(DVAE_MEL, n_fft=4096, hop_length=1024, win_length=4096)
"""The mel spectrograms of references for models without a perceiver (XTTS v1.1)."""


@dataclass(frozen=True)
class ConditioningConfig:
    """Sizes of the networks that encode references: attention over frames and, in v2, a perceiver.

    coqui-ai/TTS `TTS/tts/layers/xtts/latent_encoder.py` and `perceiver_encoder.py`.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    blocks: int = 6
    """Attention blocks over the frames of the reference."""
    heads: int = 16
    """Attention heads of these blocks."""
    norm_groups: int = 32
    """Groups of channels of their norms."""
    latents: int = 32
    """Vectors that the perceiver computes; 0 without a perceiver, so that a vector per frame remains (v1.1)."""
    depth: int = 2
    """Layers of the perceiver."""
    perceiver_heads: int = 8
    """Attention heads of the perceiver."""
    head_channels: int = 64
    """Channels of a head of the perceiver."""
    feed_forward: int = 4
    """Width of the feed-forward networks of the perceiver, as a multiple of the channels."""
    mel: PowerMelConfig = PERCEIVER_MEL
    """The mel spectrograms of references."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "blocks", "heads", "norm_groups", "depth", "perceiver_heads", "head_channels")
        check_positive(self, "feed_forward")
        check_not_negative(self, "latents", hint="0 means no perceiver")


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of the language model of text and audio codes (coqui-ai/TTS `TTS/tts/layers/xtts/gpt.py`).

    The defaults are those of XTTS v2.

    **Raises:** `ConfigError` for values of the wrong type or range, channels that are not a multiple of the heads, or
    special ids outside their tables.
    """

    layers: int = 30
    """Layers of the transformer."""
    channels: int = 1024
    """Channels of all vectors."""
    heads: int = 16
    """Attention heads."""
    text_ids: int = 6681
    """Rows of the table of text tokens."""
    start_text: int = 261
    """Id before the text."""
    stop_text: int = 0
    """Id after the text, and of padding."""
    audio_ids: int = 1026
    """Rows of the table of audio codes, with start and stop."""
    start_audio: int = 1024
    """Id before the codes."""
    stop_audio: int = 1025
    """Id after the codes, and of padding."""
    max_text: int = 402
    """The number of text tokens that an input does not reach."""
    max_audio: int = 605
    """Most codes of an output, with start and stop."""
    max_prompt: int = 70
    """Positions for a reference, which are only counted."""
    dropout: float = 0.1
    """Dropout rate in training."""
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    """The networks that encode references."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "layers", "channels", "heads", "text_ids", "audio_ids", "max_text", "max_audio")
        check_not_negative(self, "start_text", "stop_text", "start_audio", "stop_audio", "max_prompt")
        check_field(self, "dropout", 0 <= self.dropout < 1, "be in [0, 1)")
        for name, heads in (("heads", self.heads), ("conditioning.heads", self.conditioning.heads)):
            if self.channels % heads:
                raise ConfigError(f"channels is {self.channels}; it should be a multiple of {name}, which is {heads}.")
        if self.channels % self.conditioning.norm_groups:
            raise ConfigError(
                f"channels is {self.channels}; it should be a multiple of conditioning.norm_groups, which is "
                f"{self.conditioning.norm_groups}."
            )
        for name, rows in (("text", self.text_ids), ("audio", self.audio_ids)):
            for place in ("start", "stop"):
                value = getattr(self, f"{place}_{name}")
                check_field(self, f"{place}_{name}", value < rows, f"be below {name}_ids, which is {rows}")

    @property
    def codes(self) -> int:
        """Codes of the DVAE: audio ids without start and stop."""
        return min(self.start_audio, self.stop_audio)

    @property
    def max_new_codes(self) -> int:
        """Most codes that are generated for a text."""
        return self.max_audio - 3


def decoder_config(channels: int = 1024, speaker_channels: int = 512) -> GeneratorConfig:
    """The HiFi-GAN generator of XTTS: from vectors of the language model and a speaker vector to audio.

    coqui-ai/TTS `TTS/tts/layers/xtts/hifigan_decoder.py`.
    """
    return GeneratorConfig(
        in_channels=channels,
        cond_channels=speaker_channels,
        cond_in_each_stage=True,
        conv_pre_weight_norm=False,
        conv_post_weight_norm=False,
        conv_post_bias=False,
    )


@dataclass(frozen=True)
class SamplingConfig:
    """How codes are drawn from the probabilities of the language model.

    The defaults are those of the released configuration of XTTS v2. The order is that of `transformers`: repetition
    penalty, temperature, `top_k`, `top_p`.

    **Raises:** `ConfigError` for values out of range.
    """

    temperature: float = 0.75
    """Divisor of the logits, from 0.001 to 1,000,000."""
    top_k: int = 50
    """Number of the most likely codes that remain; 0 keeps all."""
    top_p: float = 0.85
    """The most likely codes whose probabilities sum to at least this number remain; 1 keeps all."""
    repetition_penalty: float = 5.0
    """Divisor of positive logits, and factor of negative ones, of codes that were already generated."""
    penalize_prefix: bool = True
    """Whether the ids 1 and start are penalised from the first step, as in the release, which feeds them as the prefix
    to `transformers`."""

    def __post_init__(self) -> None:
        check_types(self)
        check_not_negative(self, "top_k", hint="0 keeps all codes")
        check_at_most(self, 2**31 - 1, "top_k")
        check_field(self, "temperature", 1e-3 <= self.temperature <= 1e6, "be from 0.001 to 1,000,000")
        check_field(self, "repetition_penalty", 1e-3 <= self.repetition_penalty <= 1e6, "be from 0.001 to 1,000,000")
        check_field(self, "top_p", 1e-6 <= self.top_p <= 1, "be from 0.000001 to 1")


@dataclass(frozen=True)
class ReferenceConfig:
    """How much of a reference is used. The defaults are those of the released configuration of XTTS v2.

    **Raises:** `ConfigError` for values of the wrong type or range.
    """

    seconds: float = 30.0
    """Seconds of all recordings together that the language model reads (`gpt_cond_len`)."""
    part: float = 4.0
    """Seconds of the parts whose vectors are averaged; only with a perceiver (`gpt_cond_chunk_len`)."""
    longest: float = 30.0
    """Seconds of each recording that are used, for the vector of the speaker, too (`max_ref_len`)."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "seconds", "part", "longest")
        check_field(self, "part", self.part >= 1, "be at least 1")


@dataclass(frozen=True)
class XTTSConfig:
    """XTTS (arXiv 2406.04904): text and a reference to speech.

    **Raises:** `ConfigError` for values of the wrong type or range, a decoder that does not read the vectors of the
    language model and of the speaker encoder, or a speaker encoder of another kind.
    """

    gpt: GPTConfig = field(default_factory=GPTConfig)
    """The language model."""
    decoder: GeneratorConfig = field(default_factory=decoder_config)
    """The decoder of its vectors."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How codes are drawn by default."""
    references: ReferenceConfig = field(default_factory=ReferenceConfig)
    """How much of a reference is used by default."""
    dvae: DVAEConfig = field(default_factory=DVAEConfig)
    """The autoencoder whose codes the language model predicts; only training needs its weights."""
    output_rate: int = 24000
    """Sample rate of the speech in Hz."""
    languages: tuple[str, ...] = (
        *("en", "es", "fr", "de", "it", "pt", "pl", "tr", "ru", "nl", "cs", "ar", "zh-cn", "hu", "ko", "ja", "hi"),
    )
    """Codes of the languages."""
    speaker_encoder: SpeakerEncoderConfig = field(default_factory=lambda: SpeakerEncoderConfig(level=None))
    """The encoder whose vectors the decoder reads: a residual network of waveforms, by default H/ASP."""

    def __post_init__(self) -> None:
        check_types(self)
        check_positive(self, "output_rate")
        if self.decoder.in_channels != self.gpt.channels:
            raise ConfigError(
                f"decoder.in_channels is {self.decoder.in_channels}; it should be gpt.channels, which is "
                f"{self.gpt.channels}."
            )
        if self.gpt.codes != self.dvae.codes:
            raise ConfigError(
                f"gpt.start_audio and gpt.stop_audio leave {self.gpt.codes} codes; there should be {self.dvae.codes}, "
                "which is dvae.codes."
            )
        encoder = self.speaker_encoder
        if not isinstance(encoder.network, ResNetConfig) or not encoder.reads_audio:
            raise ConfigError(
                f"speaker_encoder is {encoder}; it should be a residual network (ResNetConfig) that reads waveforms "
                "(PowerMelConfig)."
            )
        if self.decoder.cond_channels != encoder.dim:
            raise ConfigError(
                f"decoder.cond_channels is {self.decoder.cond_channels}; it should be {encoder.dim}, the size of the "
                "vectors of speaker_encoder."
            )

    @property
    def input_rate(self) -> int:
        """Sample rate of the recordings that the language model was trained on, in Hz."""
        return self.dvae.mel.sample_rate


def _tiny() -> XTTSConfig:
    """A small model, for training on a CPU; its ids are those of a DVAE of 256 codes and a vocabulary of 256 tokens."""
    channels, encoder = 192, find_speaker_encoder("tiny")
    vocoder = find_vocoder("tiny").generator
    return XTTSConfig(
        gpt=GPTConfig(
            layers=4,
            channels=channels,
            heads=4,
            text_ids=256,
            start_text=3,
            audio_ids=258,
            start_audio=256,
            stop_audio=257,
            max_text=202,
            max_audio=260,
            conditioning=ConditioningConfig(
                blocks=2, heads=4, norm_groups=8, latents=16, perceiver_heads=4, head_channels=48
            ),
        ),
        decoder=replace(vocoder, in_channels=channels, cond_channels=encoder.dim, cond_in_each_stage=True),
        dvae=DVAEConfig(codes=256, code_channels=64, hidden=128, blocks=2),
        languages=("en",),
        speaker_encoder=replace(encoder, level=None),
    )


PRESETS = MappingProxyType(
    {
        "v2": XTTSConfig(),
        "v1_1": XTTSConfig(
            gpt=GPTConfig(
                text_ids=5413,
                audio_ids=8194,
                start_audio=8192,
                stop_audio=8193,
                conditioning=ConditioningConfig(latents=0, mel=FRAMES_MEL),
            ),
            dvae=DVAEConfig(codes=8192),
            languages=(*("en", "es", "fr", "de", "it", "pt", "pl", "tr", "ru", "nl", "cs", "ar", "zh-cn", "ja"),),
        ),
        "tiny": _tiny(),
    }
)
"""The configurations of the releases, and a small one for training on a CPU."""


def preset(name: str) -> XTTSConfig:
    """The configuration called `name`, a key of `PRESETS`; raises `ConfigError` for other names."""
    return find_preset(PRESETS, name)
