"""`jaxvoice vocode`: convert recordings or mel spectrograms to speech."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxvoice.cli._audio_files import convert_files, output_files, split_output
from jaxvoice.cli._setup import use_compilation_cache
from jaxvoice.console import print_message
from jaxvoice.errors import ConfigError, MelError

if TYPE_CHECKING:
    import numpy as np

    from jaxvoice.dsp import MelConfig
    from jaxvoice.pipelines import Vocoder


@dataclass(frozen=True)
class Vocode:
    """Convert recordings, or mel spectrograms (.npy, .pt) of shape (mels, frames) or (1, mels, frames), to WAV files.

    One INPUT is written to the file OUTPUT.wav or to the folder OUTPUT. Several are written to the folder OUTPUT under
    their own names. If a file fails, its error is printed, the others are converted, and the exit code is 2.
    """

    # One list, since argparse does not support options after a list and a further positional argument.
    paths: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT ... OUTPUT", help_behavior_hint="")
    ]
    """Input files (WAV, FLAC, OGG, MP3, .npy or .pt mels), followed by the output: a .wav file or a (new) folder."""
    model: str
    """Model folder, run folder, or Hub id (owner/name)."""
    subtype: Literal["pcm16", "float"] = "pcm16"
    """Samples of the WAV file: 16-bit integers or 32-bit floats."""
    cond: Path | None = None
    """.npy conditioning vector, for models that take one."""
    sigma: float | None = None
    """Standard deviation of the noise of a WaveGlow vocoder; by default 0.75."""
    denoise: float | None = None
    """Strength of the denoiser of a WaveGlow vocoder; by default 0.04; 0 disables it."""
    seed: int | None = None
    """Seed of the noise of a WaveGlow vocoder; by default 0."""
    no_check: bool = False
    """Do not check the scale of mel spectrograms."""
    debug: bool = False
    """Stop at the first error and show its traceback."""

    def run(self) -> int:
        """Vocode every input; returns 2 if one failed, else 0."""
        outputs, options = self.outputs(), self.options()
        use_compilation_cache()
        from jaxvoice.pipelines import Vocoder
        from jaxvoice.pipelines.argument_checks import check_noise_options
        from jaxvoice.pipelines.sources import load_with_method

        check_noise_options(options, "--")
        vocoder = load_with_method(self.model, "resynthesize", "a vocoder or a codec")
        if isinstance(vocoder, Vocoder):
            vocoder.check_options(options)
        elif options:
            name = next(iter(options))
            raise ConfigError(f"{self.model} is a codec, which has no option {name!r}. Omit {name} (--{name}).")
        if self.cond is not None:
            options["cond"] = _read_vector(self.cond)
        return convert_files(
            self,
            outputs,
            self.paths[-1],
            lambda path: [self.vocode(vocoder, path, options)],
            vocoder.sample_rate,
        )

    def options(self) -> dict[str, Any]:
        """The options of `synthesize` in the command line, with the path of the conditioning vector."""
        given = {name: getattr(self, name) for name in ("cond", "sigma", "denoise", "seed")}
        return {name: value for name, value in given.items() if value is not None}

    def vocode(self, vocoder: Any, path: Path, options: dict[str, Any]) -> "np.ndarray":
        """The audio of one file, with a vocoder or a codec; `options` of `synthesize`."""
        from jaxvoice.data import read_audio, read_mel
        from jaxvoice.data.mel_files import TORCH_SUFFIXES
        from jaxvoice.dsp import check_mel
        from jaxvoice.dsp.contract import zero_frames
        from jaxvoice.pipelines import Vocoder

        if path.suffix.lower() == ".npz":
            raise MelError(f"{path} is an .npz archive; save the mel spectrogram as .npy with numpy.save.")
        if path.suffix.lower() not in (".npy", *TORCH_SUFFIXES):
            audio = read_audio(path)
            return vocoder.resynthesize(audio.samples, audio.sample_rate, **options)
        if not isinstance(vocoder, Vocoder):
            raise MelError(f"{path} is a mel spectrogram, but {self.model} is a codec, which reads recordings.")
        mel = read_mel(path, vocoder.channels)
        contract = _contract(vocoder)
        if contract is not None and not self.no_check:
            padding = zero_frames(mel, contract)
            if 0 < padding < mel.shape[1]:
                print_message(
                    "warning",
                    f"{path}: the last {padding} of {mel.shape[1]} frames are 0 in all bands, which is padding and not "
                    "silence; they are left out. --no-check keeps them.",
                )
                mel = mel[:, : mel.shape[1] - padding]
            for line in check_mel(mel, contract):
                print_message("warning", f"{path}: {line}")
        return vocoder.synthesize(mel, check=False, **options)

    def outputs(self) -> dict[Path, Path]:
        """The file to write for each input.

        **Raises:** `ConfigError` if inputs and output do not match; `AudioError` if an input would be overwritten.
        """
        return output_files(*split_output(self.paths, "INPUT"))


def _contract(vocoder: "Vocoder") -> "MelConfig | None":
    """The mel contract of the vocoder, or None if it reads latents."""
    try:
        return vocoder.mel
    except ConfigError:
        return None


def _read_vector(path: Path) -> "np.ndarray":
    from jaxvoice.data.mel_files import read_npy

    try:
        return read_npy(path).reshape(-1)
    except (OSError, ValueError) as failure:
        raise ConfigError(
            f"{path} is missing or is not a .npy array of numbers ({failure}); save it with numpy.save."
        ) from failure
