"""Learning letter-to-sound, on a made-up language whose spelling is known: x is two phones, and h makes s into SH."""

import itertools
import math

from experiments.letter_to_sound import align, held_out, learn, learn_alignment, measure, prune

ONSETS = {"p": "P", "t": "T", "s": "S", "sh": "SH", "x": "K S"}
RHYMES = {"a": "AE1", "o": "OW1", "ap": "AE1 P", "ox": "OW1 K S"}
TAILS = {"": "", "ta": "T AE0", "sho": "SH OW0"}
LEXICON = [
    (a + b + c, tuple(f"{ONSETS[a]} {RHYMES[b]} {TAILS[c]}".split()))
    for a, b, c in itertools.product(ONSETS, RHYMES, TAILS)
]


def test_every_word_is_aligned_with_all_its_phones_in_order():
    table = learn_alignment(LEXICON)
    for word, phones in LEXICON:
        pairs = align(word, phones, table)
        assert pairs is not None
        assert "".join(letter for letter, _ in pairs) == word
        assert tuple(phone for _, chunk in pairs for phone in chunk) == phones
    assert align("xo", ("K", "S", "OW1"), table) == [("x", ("K", "S")), ("o", ("OW1",))]


def test_what_cannot_be_aligned_is_left_out():
    table = learn_alignment(LEXICON)
    assert align("p", ("P", "T", "S"), table) is None
    assert align("q", ("K",), table) is None


def test_words_held_out_are_said_right():
    tests = LEXICON[::7]
    model = learn([entry for entry in LEXICON if entry not in tests], learn_alignment(LEXICON), order=4, min_pair=1)
    assert [model(word) for word, _ in tests] == [phones for _, phones in tests]


def test_pruning_keeps_probabilities():
    model = learn(LEXICON, learn_alignment(LEXICON), order=4, min_pair=1)
    small = prune(model, len(model.counts) // 3)
    assert len(small.counts) < len(model.counts)
    symbols = [chr(0x100 + index) for index in range(len(model.pairs))] + ["$"]
    for history in ("^", "^" + symbols[0], symbols[1] + symbols[2]):
        assert math.isclose(sum(small.probability(history, symbol) for symbol in symbols), 1, abs_tol=1e-9)


def test_words_and_phones_that_are_wrong_are_counted():
    said = {"sa": ("S", "AE1"), "pa": ("P", "AE0"), "ta": ("SH", "AE1", "T")}
    truth = [("sa", ("S", "AE1")), ("pa", ("P", "AE1")), ("ta", ("T", "AE1")), ("xo", ("K", "S", "OW1"))]
    found = measure(said.get, truth)  # pyright: ignore[reportArgumentType]
    assert found["words right"] == 1 / 4 and found["words right but for stress"] == 2 / 4
    assert found["phones wrong"] == (1 + 2 + 3) / 9 and found["phones wrong but for stress"] == (2 + 3) / 9


def test_plurals_are_held_out_with_their_words():
    assert all(held_out(word) == held_out(word + "s") for word in ("abandon", "voyage", "zephyrs"))
    share = sum(held_out(f"{a}{b}{c}") for a, b, c in itertools.product("abcdefghij", repeat=3)) / 1000
    assert 0.02 < share < 0.09
