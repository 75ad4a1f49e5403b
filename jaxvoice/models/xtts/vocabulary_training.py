"""Training of a vocabulary of XTTS, the content of a `vocab.json`. Does not import jax."""

from collections.abc import Sequence

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from jaxvoice.config import format_value
from jaxvoice.errors import ConfigError, DataError
from jaxvoice.models.xtts.tokenizer import clean_text
from jaxvoice.models.xtts.vocabulary import LANGUAGE_TAG, MOST_IDS, SPACE, START, STOP, UNKNOWN


def train_vocabulary(texts: Sequence[str], languages: str | Sequence[str], size: int) -> str:
    """Train a vocabulary of the layout of XTTS by byte-pair encoding; the content of a `vocab.json`.

    The first ids are `[STOP]` 0, `[UNK]` 1, `[SPACE]` 2, `[START]` 3 and the tags of the languages in alphabetical
    order; in the release, `[START]` is 261. A configuration for the vocabulary has `text_ids` and `start_text` of the
    tokenizer: `GPTConfig(text_ids=tokenizer.vocabulary_size, start_text=tokenizer.start_id)`. The same texts give the
    same vocabulary.

    **Arguments:** `texts` as written, which are cleaned as by `Tokenizer`; `languages`, the code of the language of
    each text, or that of all texts; `size`, the largest number of ids. There are fewer if no pair of tokens occurs
    twice.

    **Raises:** `DataError` without texts; `ConfigError` for other numbers of languages than of texts, a code that is
    not one, or a `size` that is too small for the characters of the texts; `TextError` and `MissingExtraError` as
    `Tokenizer.encode`.
    """
    names = [languages] * len(texts) if isinstance(languages, str) else list(languages)
    if len(names) != len(texts):
        raise ConfigError(
            f"there are {len(texts)} texts and {len(names)} languages; there should be one language for each text."
        )
    tags = sorted({f"[{name.lower()}]" for name in names})
    for tag in tags:
        if not LANGUAGE_TAG.fullmatch(tag):
            raise ConfigError(f"language is {format_value(tag[1:-1])}; it should be a code such as 'en' or 'zh-cn'.")
    cleaned = [clean_text(text, name) for text, name in zip(texts, names, strict=True)]
    if not any(cleaned):
        raise DataError("there are no texts with words; a vocabulary is trained on at least one.")
    specials = [STOP, UNKNOWN, SPACE, START, *tags]
    least = len(specials) + len({character for text in cleaned for character in text if not character.isspace()})
    if not least <= size <= MOST_IDS:
        raise ConfigError(
            f"size is {format_value(size)}; it should be {least} to {MOST_IDS:,}: {len(specials)} special tokens and "
            f"{least - len(specials)} characters are the least for these texts."
        )
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, min_frequency=2, show_progress=False)
    tokenizer.train_from_iterator(cleaned, trainer)
    return tokenizer.to_str(pretty=True)
