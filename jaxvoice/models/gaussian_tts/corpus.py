"""What a model takes from the corpus it is going to learn."""

from dataclasses import replace

from jaxvoice.data.aligned import measure_statistics
from jaxvoice.data.store import Store
from jaxvoice.models.gaussian_tts.config import GaussianTTSConfig, Statistics


def fitted(config: GaussianTTSConfig, store: Store) -> GaussianTTSConfig:
    """`config` with the phonemes and the mel contract of `store`, normalising by the statistics measured in it.

    Give it the part of the corpus that is trained on. Generated mels are clipped one above the loudest value there.
    """
    found, phone_set = measure_statistics(store), store.corpus.phone_set
    assert phone_set is not None and store.mel is not None
    statistics = Statistics(
        mel_mean=found.mel_mean,
        mel_std=found.mel_std,
        mel_max=max(float(mel.max()) for mel in store["mel"]) + 1,
        duration_mean=found.duration_mean,
        duration_std=found.duration_std,
    )
    return replace(
        config,
        codes=phone_set.codes,
        phone_set=phone_set.name,
        mel=store.mel,
        peak_normalize=store.peak_normalize,
        statistics=statistics,
    )
