"""The file of the vocabulary of XTTS, `vocab.json`, and its checks. Does not import jax."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxvoice.config import format_value
from jaxvoice.errors import CheckpointError
from jaxvoice.models.xtts.config import GPTConfig

STOP, UNKNOWN, SPACE, START = "[STOP]", "[UNK]", "[SPACE]", "[START]"
LANGUAGE_TAG = re.compile(r"\[([a-z]{2,3}(?:-[a-z]{2,8})?)\]")
MOST_BYTES = 32 * 2**20
MOST_IDS = 1_000_000
_UNSUPPORTED = ("normalizer", "post_processor", "truncation", "padding")
_UNSUPPORTED_IN_MODEL = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")


@dataclass(frozen=True)
class VocabularyIds:
    """The number of ids of a vocabulary, and those that a configuration repeats."""

    size: int
    """The number of text ids: the largest id plus one."""
    start: int
    """The id of `[START]`."""
    stop: int
    """The id of `[STOP]`."""

    def mismatch(self, config: GPTConfig) -> str | None:
        """What differs from `config`, a message without its subject, the vocabulary; `None` if nothing does."""
        pairs = (
            (
                "{} text ids",
                self.size,
                config.text_ids,
                "gpt.text_ids of the model, the rows of its table of text tokens",
            ),
            (f"{START} with the id {{}}", self.start, config.start_text, "gpt.start_text of the model"),
            (f"{STOP} with the id {{}}", self.stop, config.stop_text, "gpt.stop_text of the model"),
        )
        for what, value, expected, source in pairs:
            if value != expected:
                return (
                    f"has {what.format(value)}; it should be {expected}, {source}, so the vocabulary belongs to "
                    "another model. Use the vocab.json of the model."
                )
        return None


def vocabulary_ids(ids: Mapping[str, int]) -> VocabularyIds:
    """The `VocabularyIds` of a vocabulary with these `ids` of tokens."""
    return VocabularyIds(1 + max(ids.values()), ids[START], ids[STOP])


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
        if type(number) is not int or not 0 <= number < MOST_IDS:
            _refuse(where, f"the id of {format_value(token)}", number, f"an integer from 0 to {MOST_IDS - 1:,}")
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
