"""Speech whose phones are known with their times: reading alignments, durations in frames, batches of utterances."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazily

if TYPE_CHECKING:
    from jaxvoice.data.aligned.alignment import Alignment as Alignment, Interval as Interval, Misfit as Misfit
    from jaxvoice.data.aligned.buckets import (
        AlignedBatch as AlignedBatch,
        AlignedLoader as AlignedLoader,
        Bucket as Bucket,
        batches_in_order as batches_in_order,
        choose_buckets as choose_buckets,
        collate as collate,
    )
    from jaxvoice.data.aligned.corpus import (
        WAVEGLOW_MEL as WAVEGLOW_MEL,
        AlignedCorpus as AlignedCorpus,
        AlignedUtterance as AlignedUtterance,
        find_aligned as find_aligned,
        split_aligned as split_aligned,
    )
    from jaxvoice.data.aligned.demo import demo_alignment as demo_alignment
    from jaxvoice.data.aligned.durations import Durations as Durations, durations_in_frames as durations_in_frames
    from jaxvoice.data.aligned.report import RejectedUtterance as RejectedUtterance
    from jaxvoice.data.aligned.store import (
        AlignedStore as AlignedStore,
        CorpusStatistics as CorpusStatistics,
        load_aligned as load_aligned,
        measure_statistics as measure_statistics,
    )

__getattr__, __dir__ = lazily(
    __name__,
    globals(),
    {
        "alignment": ("Alignment", "Interval", "Misfit"),
        "buckets": ("AlignedBatch", "AlignedLoader", "Bucket", "batches_in_order", "choose_buckets", "collate"),
        "corpus": ("WAVEGLOW_MEL", "AlignedCorpus", "AlignedUtterance", "find_aligned", "split_aligned"),
        "demo": ("demo_alignment",),
        "durations": ("Durations", "durations_in_frames"),
        "report": ("RejectedUtterance",),
        "store": ("AlignedStore", "CorpusStatistics", "load_aligned", "measure_statistics"),
    },
)
