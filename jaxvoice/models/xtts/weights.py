"""The weights of XTTS: names and shapes, and where they are in released files. Does not import jax."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from jaxvoice.models.hifigan.weights import GENERATOR_RULES, generator_shapes
from jaxvoice.models.speaker_encoder.weights import COUNT, dtypes as encoder_dtypes, encoder_shapes
from jaxvoice.models.xtts.config import GPTConfig, XTTSConfig
from jaxvoice.models.xtts_dvae.weights import STATISTICS, TRAINING_STATE
from jaxvoice.weights.rules import Ignore, Rule

NAME = "xtts"
DECODER = "hifigan_decoder.waveform_decoder."
ENCODER = "hifigan_decoder.speaker_encoder."

Shapes = dict[str, tuple[int, ...]]

_MARKS = ("gpt.mel_embedding.weight", "gpt.text_embedding.weight", "gpt.gpt.h.0.attn.c_attn.weight")

RULES: tuple[Rule, ...] = (
    *(Rule(DECODER + rule.source, DECODER + rule.target, rule.layout, rule.norm) for rule in GENERATOR_RULES),
    Rule(f"{ENCODER}{{path*}}", f"{ENCODER}{{path*}}"),
    Rule("gpt.{path*}", "gpt.{path*}"),
    Rule(STATISTICS, STATISTICS),
)
"""The rules of released files, which keep all names, and read weight norm of the decoder in all forms."""

_LEFTOVERS = (
    (r"gpt\.gpt_inference\..*", "duplicate of the language model, which coqui stores for inference"),
    (r"gpt\.gpt\.(wte|wpe)\.weight", "table of tokens or positions that coqui replaces by its own"),
    (r"gpt\.gpt\.h\.[0-9]+\.attn\.(bias|masked_bias)", "causal mask of transformers"),
    (r"gpt\.(prompt_embedding|prompt_pos_embedding)\..*", "table of prompts of v1, which is not used"),
    (r"(vocoder|diffusion_decoder)\..*", "decoder of v1, which jaxvoice does not have"),
)
_BESIDE = (
    (r"torch_mel_spectrogram_(style_encoder|dvae)\..*", "constant of a mel spectrogram"),
    (r"dvae\..*", "DVAE, which has a folder of its own"),
)


def _affine(name: str, *shape: int) -> Shapes:
    """A weight of this shape, and a bias of the first axis."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _projection(name: str, inputs: int, outputs: int) -> Shapes:
    """A `Conv1D` of transformers, whose weight is `(in, out)`."""
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def gpt_shapes(config: GPTConfig) -> Shapes:
    """Shape of every array of a `GPT`, by name."""
    width, sizes = config.channels, config.conditioning
    shapes = _affine("conditioning_encoder.init", width, sizes.mel.num_mels, 1)
    for i in range(sizes.blocks):
        at = f"conditioning_encoder.attn.{i}"
        shapes |= _affine(f"{at}.norm", width) | _affine(f"{at}.qkv", 3 * width, width, 1)
        shapes |= _affine(f"{at}.proj_out", width, width, 1)
    if sizes.latents:
        inner, hidden = sizes.perceiver_heads * sizes.head_channels, width * sizes.feed_forward * 2 // 3
        shapes["conditioning_perceiver.latents"] = (sizes.latents, width)
        for i in range(sizes.depth):
            at = f"conditioning_perceiver.layers.{i}"
            shapes |= {f"{at}.0.to_q.weight": (inner, width), f"{at}.0.to_kv.weight": (2 * inner, width)}
            shapes |= {f"{at}.0.to_out.weight": (width, inner)}
            shapes |= _affine(f"{at}.1.0", 2 * hidden, width) | _affine(f"{at}.1.2", width, hidden)
        shapes["conditioning_perceiver.norm.gamma"] = (width,)
    shapes |= {"text_embedding.weight": (config.text_ids, width), "mel_embedding.weight": (config.audio_ids, width)}
    shapes["text_pos_embedding.emb.weight"] = (config.max_text + 2, width)
    shapes["mel_pos_embedding.emb.weight"] = (config.max_audio + 3, width)
    for i in range(config.layers):
        at = f"gpt.h.{i}"
        shapes |= _affine(f"{at}.ln_1", width) | _projection(f"{at}.attn.c_attn", width, 3 * width)
        shapes |= _projection(f"{at}.attn.c_proj", width, width) | _affine(f"{at}.ln_2", width)
        shapes |= _projection(f"{at}.mlp.c_fc", width, 4 * width) | _projection(f"{at}.mlp.c_proj", 4 * width, width)
    shapes |= _affine("gpt.ln_f", width) | _affine("final_norm", width)
    return shapes | _affine("text_head", config.text_ids, width) | _affine("mel_head", config.audio_ids, width)


def xtts_shapes(config: XTTSConfig) -> Shapes:
    """Shape of every array of an `XTTS`, by name."""
    return {
        STATISTICS: (config.dvae.mel.num_mels,),
        **{f"gpt.{name}": shape for name, shape in gpt_shapes(config.gpt).items()},
        **{DECODER + name: shape for name, shape in generator_shapes(config.decoder).items()},
        **{ENCODER + name: shape for name, shape in encoder_shapes(config.speaker_encoder).items()},
    }


def dtypes(names: Iterable[str]) -> dict[str, np.dtype]:
    """The types of the arrays in `names` that are not float32."""
    return encoder_dtypes(names)


def count_dtypes(names: Iterable[str]) -> dict[str, str]:
    """The types of the arrays in `names` that are not float32, in released files."""
    return {name: "int64" for name in names if name.endswith(f".{COUNT}")}


def networks_in(names: Iterable[str]) -> list[str]:
    """The prefix of each XTTS among tensors of these names."""
    known = set(names)
    prefixes = sorted(name.removesuffix(_MARKS[0]) for name in known if name.endswith(_MARKS[0]))
    return [
        prefix
        for prefix in prefixes
        if (not prefix or prefix.endswith(".")) and all(prefix + mark in known for mark in _MARKS)
    ]


def ignored(prefix: str) -> tuple[Ignore, ...]:
    """The tensors of a file with an XTTS below `prefix` that are not imported.

    Checkpoints of a training contain the XTTS below `xtts.`, and other networks beside it.
    """
    at = re.escape(prefix)
    beside = re.escape(prefix.removesuffix("xtts."))
    return (
        *(Ignore(f"{at}{pattern}", reason) for pattern, reason in _LEFTOVERS),
        *(Ignore(f"{beside}{pattern}", reason) for pattern, reason in _BESIDE),
        Ignore(TRAINING_STATE, "state of training"),
    )


def below(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> Shapes:
    """The shapes of the tensors below `prefix`, by names without it."""
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
