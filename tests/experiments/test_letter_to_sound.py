"""Training of letter-to-sound on an artificial language, in which x is two phones and sh is SH."""

import itertools
import math

from experiments.letter_to_sound import align_letters, estimate_pairs, evaluate, held_out, prune, train

ONSETS = {"p": "P", "t": "T", "s": "S", "sh": "SH", "x": "K S"}
RHYMES = {"a": "AE1", "o": "OW1", "ap": "AE1 P", "ox": "OW1 K S"}
TAILS = {"": "", "ta": "T AE0", "sho": "SH OW0"}
LEXICON = [
    (a + b + c, tuple(f"{ONSETS[a]} {RHYMES[b]} {TAILS[c]}".split()))
    for a, b, c in itertools.product(ONSETS, RHYMES, TAILS)
]


def test_every_word_is_aligned_with_all_its_phones_in_order():
    table = estimate_pairs(LEXICON)
    for word, phones in LEXICON:
        pairs = align_letters(word, phones, table)
        assert pairs is not None
        assert "".join(letter for letter, _ in pairs) == word
        assert tuple(phone for _, chunk in pairs for phone in chunk) == phones
    assert align_letters("xo", ("K", "S", "OW1"), table) == [("x", ("K", "S")), ("o", ("OW1",))]


def test_words_that_cannot_be_aligned_have_no_alignment():
    table = estimate_pairs(LEXICON)
    assert align_letters("p", ("P", "T", "S"), table) is None
    assert align_letters("q", ("K",), table) is None


def test_held_out_words_are_pronounced_correctly():
    tests = LEXICON[::7]
    model = train([entry for entry in LEXICON if entry not in tests], estimate_pairs(LEXICON), order=4, min_pair=1)
    assert [model(word) for word, _ in tests] == [phones for _, phones in tests]


def test_pruning_keeps_probabilities():
    model = train(LEXICON, estimate_pairs(LEXICON), order=4, min_pair=1)
    small = prune(model, len(model.counts) // 3)
    assert len(small.counts) < len(model.counts)
    symbols = [chr(0x100 + index) for index in range(len(model.pairs))] + ["$"]
    for history in ("^", "^" + symbols[0], symbols[1] + symbols[2]):
        assert math.isclose(sum(small.probability(history, symbol) for symbol in symbols), 1, abs_tol=1e-9)


def test_accuracy_and_error_rates():
    predictions = {"sa": ("S", "AE1"), "pa": ("P", "AE0"), "ta": ("SH", "AE1", "T")}
    truth = [("sa", ("S", "AE1")), ("pa", ("P", "AE1")), ("ta", ("T", "AE1")), ("xo", ("K", "S", "OW1"))]
    found = evaluate(predictions.get, truth)  # pyright: ignore[reportArgumentType]
    assert found["word accuracy"] == 1 / 4 and found["word accuracy without stress"] == 2 / 4
    assert found["phone error rate"] == (1 + 2 + 3) / 9 and found["phone error rate without stress"] == (2 + 3) / 9


def test_plurals_are_in_the_same_set_as_their_words():
    assert all(held_out(word) == held_out(word + "s") for word in ("abandon", "voyage", "zephyrs"))
    share = sum(held_out(f"{a}{b}{c}") for a, b, c in itertools.product("abcdefghij", repeat=3)) / 1000
    assert 0.02 < share < 0.09
