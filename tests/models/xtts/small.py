"""The configuration of a small XTTS, networks with random weights, and vocabularies."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from jaxvoice.models.speaker_encoder.front_end import front_end
from jaxvoice.models.xtts import PERCEIVER_MEL, XTTS, ConditioningConfig, GPTConfig, XTTSConfig, decoder_config
from tests.models.speaker_encoder.small import SMALL as SPEAKER_ENCODER
from tests.models.xtts_dvae.small import SMALL as CODEC
from tests.random_networks import random_network

SMALL = XTTSConfig(
    gpt=GPTConfig(
        layers=2,
        channels=16,
        heads=2,
        text_ids=30,
        start_text=5,
        audio_ids=18,
        start_audio=16,
        stop_audio=17,
        max_text=20,
        max_audio=24,
        max_prompt=8,
        conditioning=ConditioningConfig(
            blocks=1,
            heads=2,
            norm_groups=16,
            latents=3,
            perceiver_heads=1,
            mel=dataclasses.replace(PERCEIVER_MEL, num_mels=10),
        ),
    ),
    decoder=dataclasses.replace(
        decoder_config(16, 12),
        upsample_initial_channel=32,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1, 3, 5),),
    ),
    dvae=CODEC.dvae,
    languages=("en", "pt"),
    speaker_encoder=dataclasses.replace(SPEAKER_ENCODER, level=None),
)


def random_xtts(config: XTTSConfig = SMALL, seed: int = 0) -> XTTS:
    """An XTTS with random weights, and the front end and positive statistics that it computes finite values with."""
    network = random_network(XTTS, config, seed)
    buffers = front_end(config.speaker_encoder), jnp.linspace(2.0, 4.0, config.dvae.mel.num_mels)
    return eqx.tree_at(lambda one: (one.hifigan_decoder.speaker_encoder.torch_spec, one.mel_stats), network, buffers)


def vocabulary(count: int = 30, start: int = 5, stop: int = 0) -> dict[str, Any]:
    """A vocabulary with `count` text ids, in the format of the library `tokenizers`."""
    specials = {"[STOP]": stop, "[UNK]": 1, "[SPACE]": 2, "[START]": start, "[en]": 3, "[pt]": 4}
    letters = (chr(0x61 + number) for number in range(count))
    tokens = {next(letters): number for number in range(count) if number not in specials.values()}
    added = [{"id": number, "content": token, "special": True} for token, number in specials.items()]
    model = {"type": "BPE", "unk_token": "[UNK]", "vocab": {**specials, **tokens}, "merges": []}
    return {"version": "1.0", "added_tokens": added, "pre_tokenizer": {"type": "Whitespace"}, "model": model}
