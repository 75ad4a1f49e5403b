"""A small XTTS with random weights, a vocabulary of letters, and a stored voice."""

import dataclasses
import json

import numpy as np
import tokenizers

from jaxvoice.models.xtts import FAMILY, StoredVoice, Tokenizer, write_voices
from jaxvoice.pipelines.xtts_synthesizer import XTTSSynthesizer
from tests.models.xtts.small import SMALL, random_xtts

NAMES = ["[STOP]", "[UNK]", "[SPACE]", *"!'(),-.:;?", *"abcdefghijklmnopqrstuvwxyz", "[START]", "[en]", "[pt]"]
CONFIG = dataclasses.replace(
    SMALL,
    gpt=dataclasses.replace(
        SMALL.gpt, text_ids=len(NAMES), start_text=NAMES.index("[START]"), max_text=40, max_audio=48
    ),
    decoder=dataclasses.replace(
        SMALL.decoder,
        upsample_rates=(16, 16),
        upsample_kernel_sizes=(32, 32),
        upsample_initial_channel=16,
        resblock_dilation_sizes=((1,),),
    ),
)


def vocabulary() -> str:
    """A vocabulary of single characters."""
    ids = {name: number for number, name in enumerate(NAMES)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=[], unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens([name for name in NAMES if len(name) > 1])
    return json.dumps(json.loads(made.to_str()))


def stored_voices() -> dict[str, StoredVoice]:
    """Two voices by name."""
    random = np.random.default_rng(5)
    shapes = (CONFIG.gpt.conditioning.latents, CONFIG.gpt.channels), (CONFIG.speaker_encoder.dim,)
    return {
        name: StoredVoice(*(random.normal(size=shape).astype(np.float32) for shape in shapes))
        for name in ("Ann", "Ben")
    }


def small_synthesizer(config=CONFIG, voices=None, **options) -> XTTSSynthesizer:
    """The pipeline of the small model."""
    tokenizer = Tokenizer(vocabulary(), max_text=config.gpt.max_text)
    return XTTSSynthesizer(random_xtts(config), config, tokenizer, voices, **options)


def write_small_xtts(folder) -> None:
    """Write the model folder of the small model."""
    FAMILY.save_network(folder, random_xtts(CONFIG), CONFIG)
    (folder / "vocab.json").write_text(vocabulary(), encoding="utf-8")
    write_voices(folder, stored_voices())
