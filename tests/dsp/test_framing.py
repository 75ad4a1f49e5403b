"""Windows keep every frame once, with its whole receptive field."""

import itertools

import pytest

from jaxvoice.dsp.framing import bucket_size, equal_size_batches, longest_bucket, plan_windows


@pytest.mark.parametrize(("size", "context"), [(16, (3, 4)), (16, (0, 0)), (9, (4, 4)), (9, (5, 3))])
def test_windows_keep_every_frame_once_with_its_context(size, context):
    left, right = context
    for frames in range(1, 60):
        windows = list(plan_windows(frames, size, context))
        kept = list(itertools.chain.from_iterable(range(w.keep_from, w.keep_to) for w in windows))
        assert kept == list(range(frames))
        for window in windows:
            assert 0 <= window.start <= window.keep_from < window.keep_to <= window.stop <= frames
            assert window.start == 0 or window.keep_from - window.start >= left
            assert window.stop == frames or window.stop - window.keep_to >= right
            assert window.frames == min(size, frames)


def test_inner_windows_have_no_more_context_than_needed():
    first, second, *_, last = plan_windows(1000, 100, (10, 20))
    assert (first.keep_from, first.keep_to) == (0, 80)
    assert (second.start, second.keep_from, second.keep_to, second.stop) == (70, 80, 150, 170)
    assert (last.start, last.stop) == (900, 1000)


def test_windows_without_room_for_results_raise():
    with pytest.raises(ValueError, match=r"size is 16 frames and context is \(8, 8\); size should be larger"):
        next(plan_windows(17, 16, (8, 8)))
    assert [window.keep_to for window in plan_windows(16, 16, (8, 8))] == [16]


def test_windows_keep_a_part_of_a_signal():
    for frames, begin, end in [(40, 3, 37), (12, 5, 9), (30, 0, 1)]:
        windows = list(plan_windows(frames, 16, (3, 4), (begin, end)))
        kept = list(itertools.chain.from_iterable(range(w.keep_from, w.keep_to) for w in windows))
        assert kept == list(range(begin, end))


def test_bucket_sizes_are_few_and_at_most_half_too_long():
    sizes = {bucket_size(frames, 512) for frames in range(1, 513)}
    assert sorted(sizes) == [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    assert all(frames <= bucket_size(frames, 512) <= max(16, 1.5 * frames) for frames in range(1, 513))
    assert bucket_size(40, 41) == 41


def test_batches_contain_every_item_once_in_powers_of_two():
    items = [16] * 7 + [24] + [16] * 4 + [64] * 2
    batches = list(equal_size_batches(enumerate(items), lambda item: item[1], lambda size: 80 // size))
    assert [(size, len(batch)) for size, batch in batches] == [
        (16, 4),
        (16, 4),
        (16, 2),
        (16, 1),
        (24, 1),
        *[(64, 1)] * 2,
    ]
    assert sorted(item for _, batch in batches for item in batch) == list(enumerate(items))
    assert all(size == item[1] for size, batch in batches for item in batch)


def test_longest_buckets_are_the_buckets_below():
    sizes = sorted({bucket_size(frames, 10**6) for frames in range(1, 3000)})
    for frames in range(16, 2000):
        assert longest_bucket(frames, 10**6) == max(size for size in sizes if size <= frames)
    assert [longest_bucket(frames, 64) for frames in (1, 15, 63, 64, 500)] == [1, 15, 48, 64, 64]
