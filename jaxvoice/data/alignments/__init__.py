"""Alignments of phones with recordings: readers and writers, durations in frames, and corpora that contain them."""

from jaxvoice._lazy import list_public
from jaxvoice.data.alignments.aligned_corpora import find_aligned as find_aligned
from jaxvoice.data.alignments.alignment import (
    Alignment as Alignment,
    AlignmentError as AlignmentError,
    Interval as Interval,
)
from jaxvoice.data.alignments.frame_durations import (
    PhoneDurations as PhoneDurations,
    durations_in_frames as durations_in_frames,
)
from jaxvoice.data.alignments.phone_mapping import demo_alignment as demo_alignment
from jaxvoice.data.alignments.textgrid import read_textgrid as read_textgrid, write_textgrid as write_textgrid

__dir__ = list_public(globals())
