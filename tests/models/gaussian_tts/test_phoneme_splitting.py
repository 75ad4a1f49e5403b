"""Splitting of phonemes: pieces cover all phonemes, respect the limits, and end at pauses if possible."""

import numpy as np
import pytest

from jaxvoice.models.gaussian_tts.inference import Piece, split_at_pauses


def split(pattern: str, frames: list[int] | None = None, *, phones: int = 99, most: int = 10**6) -> list[Piece]:
    """`pattern` has a letter for each phoneme: `_` is a pause, a capital begins a word."""
    letters = np.array(list(pattern))
    starts = np.char.isupper(letters)
    lengths = np.ones(len(letters), int) if frames is None else np.array(frames)
    return split_at_pauses(lengths, letters == "_", starts, max_phones=phones, max_frames=most)


def test_short_sequence_is_one_piece():
    assert split("Abc_De_") == [Piece(0, 7)]


def test_adjacent_pieces_share_a_pause():
    assert split("Abc_De_Fghi_", phones=6) == [Piece(0, 4), Piece(3, 7, True), Piece(6, 12, True)]


def test_piece_ends_at_the_last_possible_pause():
    assert split("A_B_C_D_", phones=7) == [Piece(0, 6), Piece(5, 8, True)]


def test_frame_limit_splits_pieces():
    assert split("Ab_Cd_", [5, 5, 4, 5, 5, 2], most=23) == [Piece(0, 3), Piece(2, 6, True)]
    assert split("Ab_Cd_", [5, 5, 4, 5, 5, 2], most=26) == [Piece(0, 6)]


def test_pieces_without_pauses_end_before_a_word():
    assert split("AbcDefGhi", phones=7) == [Piece(0, 6), Piece(6, 9)]
    assert split("_AbcdefGh", phones=8) == [Piece(0, 7), Piece(7, 9)], "a piece does not end at its first pause"
    assert split("a_AbcdefGh", phones=6) == [Piece(0, 2), Piece(1, 7, True), Piece(7, 10)], (
        "a piece does not end right after its first pause"
    )


def test_pieces_without_word_starts_end_anywhere():
    assert split("abcdefgh", phones=3) == [Piece(0, 3), Piece(3, 6), Piece(6, 8)]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_cover_random_sequences_in_order(seed):
    random = np.random.default_rng(seed)
    count, phones, most = (int(n) for n in random.integers((1, 1, 12), (200, 30, 80)))
    pattern = "".join(random.choice(list("abcD_"), count, p=[0.3, 0.3, 0.2, 0.1, 0.1]))
    frames = random.integers(1, 13, count).tolist()
    said: list[int] = []
    for piece in split(pattern, frames, phones=phones, most=most):
        assert 0 < piece.phones <= phones and sum(frames[piece.start : piece.stop]) <= most
        if piece.starts_with_shared_pause:
            assert pattern[piece.start] == "_" and said[-1] == piece.start
        said += range(piece.start + piece.starts_with_shared_pause, piece.stop)
    assert said == list(range(count))
