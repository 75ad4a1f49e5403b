"""Signal processing: STFT, mel spectrograms and their contract, Griffin-Lim, measures of audio quality."""

from jaxvoice.dsp.contract import check_mel as check_mel
from jaxvoice.dsp.griffin_lim import griffin_lim as griffin_lim
from jaxvoice.dsp.griffin_lim import mel_to_audio as mel_to_audio
from jaxvoice.dsp.griffin_lim import mel_to_magnitude as mel_to_magnitude
from jaxvoice.dsp.listening import pesq as pesq
from jaxvoice.dsp.listening import stoi as stoi
from jaxvoice.dsp.measures import STFTDistance as STFTDistance
from jaxvoice.dsp.measures import mel_cepstral_distortion as mel_cepstral_distortion
from jaxvoice.dsp.measures import mel_cepstrum as mel_cepstrum
from jaxvoice.dsp.measures import mel_l1 as mel_l1
from jaxvoice.dsp.measures import stft_distance as stft_distance
from jaxvoice.dsp.mel import MelConfig as MelConfig
from jaxvoice.dsp.mel import log_mel as log_mel
from jaxvoice.dsp.mel import mel_filterbank as mel_filterbank
from jaxvoice.dsp.stft import istft as istft
from jaxvoice.dsp.stft import stft as stft
