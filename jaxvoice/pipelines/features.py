"""Log-mel spectrograms of recordings of any length, in windows of a few sizes."""

import numpy as np
from jaxtyping import Float

from jaxvoice.dsp.mel import log_mel
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import AudioError
from jaxvoice.pipelines.windows import bucket, plan_windows


def windowed_log_mel(
    audio: Float[np.ndarray, " samples"], config: MelConfig, *, complete: bool = False, window: int = 1024
) -> Float[np.ndarray, "mels frames"]:
    """What `log_mel` gives, computed `window` frames at a time: few programs, and memory that does not grow.

    **Arguments:** `audio` (samples,) at `config.sample_rate`; `complete`, whether silence is appended until the last
    samples fill a frame of their own; `window`, in frames.

    **Raises:** `AudioError` if `audio` is shorter than `config.min_samples`.
    """
    if len(audio) < config.min_samples:
        raise AudioError(
            f"The audio is too short: {len(audio)} samples at {config.sample_rate} Hz, and one mel frame needs "
            f"{config.min_samples}; give at least {config.min_samples / config.sample_rate:.3f} s."
        )
    hop, pad = config.hop_length, config.pad
    if complete:
        audio = np.pad(audio, (0, -len(audio) % hop))
    frames, context = config.num_frames(len(audio)), -(-pad // hop)
    # With the reflection at the end made here, what is appended behind it changes no frame that is kept.
    audio = np.pad(np.asarray(audio, np.float32), (0, pad), mode="reflect")
    blocks = -(-len(audio) // hop)
    size = bucket(max(blocks, -(-config.min_samples // hop)), max(window, 4 * context))
    audio = np.pad(audio, (0, max(blocks, size) * hop - len(audio)))
    mel = np.empty((config.num_mels, frames), np.float32)
    for part in plan_windows(max(blocks, size), size, (context, context)):
        found = np.asarray(log_mel(audio[part.start * hop : part.stop * hop], config))
        keep_to = min(part.keep_to, frames)
        if keep_to > part.keep_from:
            mel[:, part.keep_from : keep_to] = found[:, part.keep_from - part.start : keep_to - part.start]
    return mel
