"""The file of the vocabulary of XTTS, `vocab.json`: checks, and training of a new one. Does not import jax."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError, ConfigError, DataError
from jaxvoice.text.multilingual_normalization import normalize_multilingual
from jaxvoice.text.romanization import romanize

STOP, UNKNOWN, SPACE, START = "[STOP]", "[UNK]", "[SPACE]", "[START]"
LANGUAGE_TAG = re.compile(r"\[([a-z]{2,3}(?:-[a-z]{2,8})?)\]")
MOST_BYTES = 32 * 2**20
_MOST_IDS = 1_000_000
_UNSUPPORTED = ("normalizer", "post_processor", "truncation", "padding")
_UNSUPPORTED_IN_MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")


def vocabulary_content(path: str | Path) -> bytes:
    """The content of a `vocab.json`. Of a file that is too large, one byte more than `MOST_BYTES` is read.

    **Raises:** `CheckpointError` if it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as failure:
        raise CheckpointError(
            f"{path} cannot be read ({failure.strerror}); it should be the vocab.json of the model."
        ) from failure


def parse_vocabulary(data: bytes, where: str) -> Mapping[str, int]:
    """The ids of the tokens in `data`, the content of a `vocab.json`.

    **Arguments:** `where`, the name of the file, for messages.

    **Raises:** `CheckpointError` unless it is a file of the library `tokenizers` in the layout of XTTS: byte-pair
    encoding of words without a normalizer, and the tokens `[STOP]`, `[UNK]`, `[SPACE]` and `[START]`.
    """
    if len(data) > MOST_BYTES:
        raise CheckpointError(
            f"{where} is larger than {MOST_BYTES:,} bytes, the most of a vocabulary; use the vocab.json of the model."
        )
    try:
        table = json.loads(data)
    except (ValueError, RecursionError) as failure:
        reason = "nested too deep" if isinstance(failure, RecursionError) else failure
        raise CheckpointError(f"{where} is not valid JSON ({reason}); use the vocab.json of the model.") from failure
    if not isinstance(table, dict) or not isinstance(table.get("model"), dict):
        raise CheckpointError(
            f"{where} is not a file of the library tokenizers: it has no 'model'. Use the vocab.json of the model."
        )
    model = table["model"]
    if model.get("type", "BPE") != "BPE":
        _refuse(where, "model.type", model["type"], "'BPE'")
    pre_tokenizer = table.get("pre_tokenizer")
    if not isinstance(pre_tokenizer, dict) or pre_tokenizer.get("type") != "Whitespace":
        _refuse(where, "pre_tokenizer", pre_tokenizer, "{'type': 'Whitespace'}")
    for name in _UNSUPPORTED:
        if table.get(name) is not None:
            _refuse(where, name, table[name], "null")
    for name in _UNSUPPORTED_IN_MODEL:
        if model.get(name):
            _refuse(where, f"model.{name}", model[name], "null")
    if model.get("unk_token") != UNKNOWN:
        _refuse(where, "model.unk_token", model.get("unk_token"), repr(UNKNOWN))
    ids = _checked_ids(model.get("vocab"), table.get("added_tokens"), where)
    _check_merges(model.get("merges"), model["vocab"], where)
    return ids


def _checked_ids(vocabulary: Any, added: Any, where: str) -> Mapping[str, int]:
    """The ids of a table and of the added tokens."""
    if not isinstance(vocabulary, dict):
        _refuse(where, "model.vocab", vocabulary, "a table of tokens and their ids")
    if not isinstance(added, list) or not all(isinstance(one, dict) and "content" in one for one in added):
        _refuse(where, "added_tokens", added, "a list of tokens with 'id' and 'content'")
    ids = dict(vocabulary)
    for one in added:
        token, number = one["content"], one.get("id")
        if not isinstance(token, str):
            _refuse(where, "the content of an added token", token, "text")
        if ids.setdefault(token, number) != number:
            _refuse(where, f"the id of the added token {format_value(token)}", number, format_value(ids[token]))
    for token, number in ids.items():
        if type(number) is not int or not 0 <= number < _MOST_IDS:
            _refuse(where, f"the id of {format_value(token)}", number, f"an integer from 0 to {_MOST_IDS - 1:,}")
    if len(set(ids.values())) < len(ids):
        raise CheckpointError(f"{where} has several tokens with the same id; use the vocab.json of the model.")
    specials = {one["content"] for one in added}
    missing = [token for token in (STOP, UNKNOWN, SPACE, START) if token not in specials]
    if missing:
        raise CheckpointError(
            f"{where} lacks the added tokens {', '.join(missing)}, which XTTS needs; use the vocab.json of the model."
        )
    return ids


def _check_merges(merges: Any, vocabulary: Mapping[str, Any], where: str) -> None:
    """Raise unless each merge is of two tokens that make a third; the library may panic otherwise."""
    if not isinstance(merges, list):
        _refuse(where, "model.merges", merges, "a list of pairs of tokens")
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        valid = isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) and one for one in pair)
        if not valid or not all(token in vocabulary for token in (*pair, "".join(pair))):
            _refuse(where, "a pair of model.merges", merge, "two tokens of model.vocab that make a third")


def _refuse(where: str, name: str, value: Any, expected: str) -> None:
    raise CheckpointError(
        f"{where}: {name} is {format_value(value)}; it should be {expected} in a vocabulary of XTTS. Use the "
        "vocab.json of the model."
    )


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
    if not least <= size <= _MOST_IDS:
        raise ConfigError(
            f"size is {format_value(size)}; it should be {least} to {_MOST_IDS:,}: {len(specials)} special tokens and "
            f"{least - len(specials)} characters are the least for these texts."
        )
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, min_frequency=2, show_progress=False)
    tokenizer.train_from_iterator(cleaned, trainer)
    return tokenizer.to_str(pretty=True)


def clean_text(text: str, language: str) -> str:
    """`text` as XTTS reads it: normalised, and Chinese, Japanese and Korean in Latin letters."""
    return romanize(normalize_multilingual(text, language), language.partition("-")[0].lower())
