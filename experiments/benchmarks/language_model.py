"""A bigram language model of given sentences, for recognisers whose own model was trained on other texts."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

_DISCOUNT = 0.5


def bigram_arpa(sentences: Sequence[Sequence[str]]) -> str:
    """The bigrams of `sentences`, each a list of words, as a text in the ARPA format.

    Each seen bigram is discounted by half a count (absolute discounting). The discounted probability is distributed
    over the words that were not seen in the context, in proportion to their counts plus one.

    **Raises:** `ValueError` if `sentences` contain no words.
    """
    words, pairs, before = Counter(), Counter(), Counter()
    for sentence in sentences:
        marked = ["<s>", *sentence, "</s>"]
        words.update(marked[1:])
        pairs.update(itertools.pairwise(marked))
        before.update(marked[:-1])
    if len(words) < 2:
        raise ValueError("A language model needs sentences with words, got none.")
    total = sum(words.values()) + len(words)
    share = {word: (count + 1) / total for word, count in words.items()}
    singles, doubles = [], []
    for word in ["<s>", *sorted(words)]:
        after = {second: count for (first, second), count in pairs.items() if first == word}
        line = f"{math.log10(share[word]) if word in share else -99:.6f}\t{word}"
        if after:
            unseen = 1 - sum(share[second] for second in after)
            if unseen > 1e-9:
                line += f"\t{math.log10(_DISCOUNT * len(after) / before[word] / unseen):.6f}"
            seen = ((second, (count - _DISCOUNT) / before[word]) for second, count in sorted(after.items()))
            doubles += [f"{math.log10(chance):.6f}\t{word} {second}" for second, chance in seen]
        singles.append(line)
    head = ["\\data\\", f"ngram 1={len(singles)}", f"ngram 2={len(doubles)}"]
    return "\n".join([*head, "", "\\1-grams:", *singles, "", "\\2-grams:", *doubles, "", "\\end\\", ""])
