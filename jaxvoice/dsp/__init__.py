"""Signal processing: STFT, mel spectrograms and their contract, Griffin-Lim, PQMF, F0, measures of audio quality."""

from typing import TYPE_CHECKING

from jaxvoice._lazy import lazy_imports

if TYPE_CHECKING:
    from jaxvoice.dsp.contract import check_mel as check_mel
    from jaxvoice.dsp.inversion import (
        griffin_lim as griffin_lim,
        mel_to_audio as mel_to_audio,
        mel_to_magnitude as mel_to_magnitude,
    )
    from jaxvoice.dsp.measures import (
        STFTDistance as STFTDistance,
        f0_correlation as f0_correlation,
        f0_rmse_cents as f0_rmse_cents,
        mel_cepstral_distortion as mel_cepstral_distortion,
        mel_cepstrum as mel_cepstrum,
        mel_l1 as mel_l1,
        stft_distance as stft_distance,
        voicing_error as voicing_error,
    )
    from jaxvoice.dsp.mel import (
        bucketed_log_mel as bucketed_log_mel,
        linear_spectrogram as linear_spectrogram,
        log_mel as log_mel,
        log_mel_of_linear as log_mel_of_linear,
    )
    from jaxvoice.dsp.mel_config import (
        MelConfig as MelConfig,
        NemoMelConfig as NemoMelConfig,
        PowerMelConfig as PowerMelConfig,
        mel_filterbank as mel_filterbank,
    )
    from jaxvoice.dsp.nemo_mel import (
        NemoRelease as NemoRelease,
        bucketed_nemo_log_mel as bucketed_nemo_log_mel,
        nemo_log_mel as nemo_log_mel,
    )
    from jaxvoice.dsp.perceptual_metrics import pesq as pesq, stoi as stoi
    from jaxvoice.dsp.pitch import (
        PitchStatistics as PitchStatistics,
        match_pitch as match_pitch,
        pitch_features as pitch_features,
        pitch_statistics as pitch_statistics,
        shift_pitch as shift_pitch,
    )
    from jaxvoice.dsp.pitch_tracking import PitchConfig as PitchConfig, track_pitch as track_pitch
    from jaxvoice.dsp.power_mels import power_mel as power_mel
    from jaxvoice.dsp.pqmf import (
        PQMFMethod as PQMFMethod,
        pqmf_analysis as pqmf_analysis,
        pqmf_filters as pqmf_filters,
        pqmf_kernels as pqmf_kernels,
        pqmf_prototype as pqmf_prototype,
        pqmf_synthesis as pqmf_synthesis,
    )
    from jaxvoice.dsp.sinc_resampling import sinc_resample as sinc_resample
    from jaxvoice.dsp.transforms import istft as istft, stft as stft

__getattr__, __dir__ = lazy_imports(
    __name__,
    globals(),
    {
        "contract": ("check_mel",),
        "inversion": ("griffin_lim", "mel_to_audio", "mel_to_magnitude"),
        "perceptual_metrics": ("pesq", "stoi"),
        "measures": (
            "STFTDistance",
            "f0_correlation",
            "f0_rmse_cents",
            "mel_cepstral_distortion",
            "mel_cepstrum",
            "mel_l1",
            "stft_distance",
            "voicing_error",
        ),
        "mel": ("bucketed_log_mel", "linear_spectrogram", "log_mel", "log_mel_of_linear"),
        "mel_config": ("MelConfig", "NemoMelConfig", "PowerMelConfig", "mel_filterbank"),
        "nemo_mel": ("NemoRelease", "bucketed_nemo_log_mel", "nemo_log_mel"),
        "pitch": ("PitchStatistics", "match_pitch", "pitch_features", "pitch_statistics", "shift_pitch"),
        "pitch_tracking": ("PitchConfig", "track_pitch"),
        "power_mels": ("power_mel",),
        "pqmf": ("PQMFMethod", "pqmf_analysis", "pqmf_filters", "pqmf_kernels", "pqmf_prototype", "pqmf_synthesis"),
        "sinc_resampling": ("sinc_resample",),
        "transforms": ("istft", "stft"),
    },
)
