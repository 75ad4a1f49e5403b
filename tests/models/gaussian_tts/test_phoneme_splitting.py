"""Splitting of phonemes: no phoneme is lost, no piece is too long, and pieces end at pauses where there are any."""

import numpy as np
import pytest

from jaxvoice.models.gaussian_tts.inference import Piece, split_at_pauses


def split(pattern: str, frames: list[int] | None = None, *, phones: int = 99, most: int = 10**6) -> list[Piece]:
    """`pattern` has a letter for each phoneme: `_` is a pause, a capital begins a word."""
    letters = np.array(list(pattern))
    starts = np.char.isupper(letters)
    lengths = np.ones(len(letters), int) if frames is None else np.array(frames)
    return split_at_pauses(lengths, letters == "_", starts, max_phones=phones, max_frames=most)


def test_a_line_that_fits_is_one_piece():
    assert split("Abc_De_") == [Piece(0, 7)]


def test_a_pause_is_said_by_both_pieces():
    assert split("Abc_De_Fghi_", phones=6) == [Piece(0, 4), Piece(3, 7, True), Piece(6, 12, True)]


def test_the_last_pause_within_reach_is_taken():
    assert split("A_B_C_D_", phones=7) == [Piece(0, 6), Piece(5, 8, True)]


def test_frames_limit_a_piece_too():
    assert split("Ab_Cd_", [5, 5, 4, 5, 5, 2], most=23) == [Piece(0, 3), Piece(2, 6, True)]
    assert split("Ab_Cd_", [5, 5, 4, 5, 5, 2], most=26) == [Piece(0, 6)]


def test_without_a_pause_the_cut_is_before_a_word_and_nothing_is_shared():
    assert split("AbcDefGhi", phones=7) == [Piece(0, 6), Piece(6, 9)]
    assert split("_AbcdefGh", phones=8) == [Piece(0, 7), Piece(7, 9)], "nor is the pause that begins a piece its end"
    assert split("a_AbcdefGh", phones=6) == [Piece(0, 2), Piece(1, 7, True), Piece(7, 10)], "not right after a pause"


def test_within_a_word_if_nothing_else_is_left():
    assert split("abcdefgh", phones=3) == [Piece(0, 3), Piece(3, 6), Piece(6, 8)]


@pytest.mark.parametrize("seed", range(20))
def test_any_line_is_said_once_and_in_order(seed):
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
