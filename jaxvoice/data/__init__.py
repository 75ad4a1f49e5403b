"""Data for training: audio files, corpora, alignments, preflight, stores, samplers, loader and demo corpus."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.data.aligned import (
        CorpusStatistics as CorpusStatistics,
        load_aligned as load_aligned,
        measure_statistics as measure_statistics,
    )
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
    from jaxvoice.data.alignments.frame_phonemes import frame_labels as frame_labels, label_column as label_column
    from jaxvoice.data.alignments.phone_mapping import demo_alignment as demo_alignment
    from jaxvoice.data.alignments.textgrid import read_textgrid as read_textgrid, write_textgrid as write_textgrid
    from jaxvoice.data.atomic_folders import cache_folder as cache_folder
    from jaxvoice.data.audio import (
        Audio as Audio,
        AudioBlocks as AudioBlocks,
        AudioInfo as AudioInfo,
        audio_info as audio_info,
        read_audio as read_audio,
        read_blocks as read_blocks,
        read_channels as read_channels,
        resample as resample,
        write_wav as write_wav,
    )
    from jaxvoice.data.augmentation import (
        AudioBatch as AudioBatch,
        AudioCrops as AudioCrops,
        AugmentationConfig as AugmentationConfig,
        augment as augment,
        integrate as integrate,
    )
    from jaxvoice.data.batches import (
        Bucket as Bucket,
        ColumnBatch as ColumnBatch,
        CropBatch as CropBatch,
        Selection as Selection,
        UtteranceBatch as UtteranceBatch,
        collate_columns as collate_columns,
        collate_cropped_columns as collate_cropped_columns,
        collate_crops as collate_crops,
        collate_utterances as collate_utterances,
    )
    from jaxvoice.data.buckets import (
        batches_in_order as batches_in_order,
        choose_buckets as choose_buckets,
        choose_shapes as choose_shapes,
        column_batches_in_order as column_batches_in_order,
    )
    from jaxvoice.data.corpora import find_corpus as find_corpus
    from jaxvoice.data.corpus_check import Preflight as Preflight, preflight as preflight
    from jaxvoice.data.demo.demo_corpus import Voice as Voice, make_demo_corpus as make_demo_corpus
    from jaxvoice.data.demo.instruments import make_instrument_corpus as make_instrument_corpus
    from jaxvoice.data.features import computed_column as computed_column, computed_columns as computed_columns
    from jaxvoice.data.loader import Loader as Loader
    from jaxvoice.data.mel_files import read_mel as read_mel
    from jaxvoice.data.references import WithReferences as WithReferences, shuffle_pieces as shuffle_pieces
    from jaxvoice.data.samplers import (
        BatchPlan as BatchPlan,
        LengthBuckets as LengthBuckets,
        LoaderState as LoaderState,
        RandomCrops as RandomCrops,
        Sampler as Sampler,
        SpeakerBalanced as SpeakerBalanced,
    )
    from jaxvoice.data.speaker_table import SpeakerTable as SpeakerTable
    from jaxvoice.data.splits import split as split
    from jaxvoice.data.store import Store as Store, divide_recordings as divide_recordings, load_store as load_store
    from jaxvoice.data.utterances import (
        Corpus as Corpus,
        RejectedUtterance as RejectedUtterance,
        Utterance as Utterance,
    )
    from jaxvoice.data.weighted_buckets import (
        WeightedBuckets as WeightedBuckets,
        balanced_weights as balanced_weights,
    )

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "aligned": ("CorpusStatistics", "load_aligned", "measure_statistics"),
        "alignments.alignment": ("Alignment", "AlignmentError", "Interval"),
        "alignments.aligned_corpora": ("find_aligned",),
        "alignments.frame_durations": ("PhoneDurations", "durations_in_frames"),
        "alignments.frame_phonemes": ("frame_labels", "label_column"),
        "alignments.phone_mapping": ("demo_alignment",),
        "alignments.textgrid": ("read_textgrid", "write_textgrid"),
        "audio": (
            "Audio",
            "AudioBlocks",
            "AudioInfo",
            "audio_info",
            "read_audio",
            "read_blocks",
            "read_channels",
            "resample",
            "write_wav",
        ),
        "augmentation": ("AudioBatch", "AudioCrops", "AugmentationConfig", "augment", "integrate"),
        "batches": (
            "Bucket",
            "ColumnBatch",
            "CropBatch",
            "Selection",
            "UtteranceBatch",
            "collate_columns",
            "collate_cropped_columns",
            "collate_crops",
            "collate_utterances",
        ),
        "buckets": ("batches_in_order", "choose_buckets", "choose_shapes", "column_batches_in_order"),
        "corpora": ("find_corpus",),
        "demo.demo_corpus": ("Voice", "make_demo_corpus"),
        "demo.instruments": ("make_instrument_corpus",),
        "atomic_folders": ("cache_folder",),
        "features": ("computed_column", "computed_columns"),
        "loader": ("Loader",),
        "mel_files": ("read_mel",),
        "corpus_check": ("Preflight", "preflight"),
        "references": ("WithReferences", "shuffle_pieces"),
        "samplers": ("LengthBuckets", "LoaderState", "BatchPlan", "RandomCrops", "Sampler", "SpeakerBalanced"),
        "speaker_table": ("SpeakerTable",),
        "splits": ("split",),
        "store": ("Store", "divide_recordings", "load_store"),
        "utterances": ("Corpus", "RejectedUtterance", "Utterance"),
        "weighted_buckets": ("WeightedBuckets", "balanced_weights"),
    },
)
