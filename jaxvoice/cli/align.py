"""`jaxvoice align`: find the times of the phonemes in recordings."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jaxvoice.cli._setup import check_folder, make_folder, use_compilation_cache
from jaxvoice.console import print_message, print_text
from jaxvoice.errors import AudioError, ConfigError, DataError, JaxvoiceError, TextError

if TYPE_CHECKING:
    from jaxvoice.data import Utterance
    from jaxvoice.pipelines import Aligner
    from jaxvoice.pipelines.aligner import ForcedAlignment

_SUFFIX = ".TextGrid"


@dataclass(frozen=True)
class Align:
    """Align the recordings of CORPUS with their texts and write one Praat TextGrid per recording to the folder OUTPUT.

    CORPUS is laid out like LJSpeech or VCTK, or is a file list with lines id|text. Recordings that cannot be aligned
    are skipped and counted. If a TextGrid cannot be written, its error is printed, the others are written, and the exit
    code is 2. A TextGrid has the tiers words and phones.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS")]
    """The corpus: a folder, or a file list."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder of the TextGrids; it is created if necessary."""
    model: str
    """Text-to-speech model: model folder, run folder, or Hub id (owner/name)."""
    corpus: Literal["auto", "ljspeech", "vctk", "filelist"] = "auto"
    """Kind of the corpus; auto detects it."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list; by default the folder of the list."""
    max_cost: float | None = None
    """Largest alignment cost; recordings with a higher cost are skipped. The command prints the highest cost."""
    overwrite: bool = False
    """Overwrite existing TextGrids."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Align every recording; returns 2 if a TextGrid could not be written, else 0."""
        from tqdm import tqdm

        from jaxvoice.data import find_corpus
        from jaxvoice.data.alignments.textgrid import write_textgrid
        from jaxvoice.data.utterances import RejectedUtterance, report_table

        check_folder(self.output)
        found = find_corpus(self.path, self.corpus, self.audio_dir)
        targets = self.targets(found.utterances)
        if not any(utterance.text.strip() for utterance in found.utterances):
            raise DataError(
                f"None of the {len(found)} utterance(s) of {self.path} has a text; pass a corpus with texts."
            )
        use_compilation_cache()
        from jaxvoice.pipelines import Aligner

        aligner = Aligner(self.model)
        rejected: list[RejectedUtterance] = []
        costs: dict[str, float] = {}
        seconds, failed = 0.0, 0
        # disable=None: no bar unless stderr is a terminal.
        for utterance in tqdm(found.utterances, unit="file", disable=None):
            try:
                aligned = self.align(aligner, utterance)
            except (AudioError, DataError, TextError) as failure:
                kind = "audio" if isinstance(failure, AudioError) else getattr(failure, "kind", "text")
                rejected.append(RejectedUtterance(utterance.id, kind, _with_name(failure, utterance)))
                continue
            make_folder(self.output)  # an error for every recording
            target = targets[utterance.id]
            try:
                make_folder(target.parent)
                write_textgrid(target, aligned.alignment, words=aligned.words)
            except JaxvoiceError as failure:
                if self.debug:
                    raise
                failed += 1
                print_message("error", failure)
                continue
            costs[utterance.id] = aligned.cost
            seconds += aligned.alignment.seconds
        if rejected:
            print_text(report_table((), rejected, found.root))
        if not costs and not failed:
            raise DataError(f"None of the {len(rejected)} utterance(s) of {self.path} could be aligned.")
        if costs:
            worst = max(costs, key=lambda name: costs[name])
            print_text(
                f"{self.output}: {len(costs)} of {len(found)} utterances aligned, {seconds / 60:.1f} minutes; cost "
                f"{statistics.median(costs.values()):.2f} (median), {costs[worst]:.2f} (worst, {worst})"
            )
        if failed:
            print_message("error", f"{failed} of {len(found)} TextGrids could not be written; see above.")
        return 2 if failed else 0

    def align(self, aligner: "Aligner", utterance: "Utterance") -> "ForcedAlignment":
        """Align one utterance.

        **Raises:** `AlignmentError`, `TextError` or `AudioError` if it cannot be aligned, or costs too much.
        """
        from jaxvoice.data import AlignmentError, read_audio
        from jaxvoice.data.store import audio_of

        if not utterance.text.strip():
            raise AlignmentError("no text", f"{utterance.id} has no text; add it to the corpus.")
        audio = read_audio(audio_of(utterance))
        aligned = aligner.align(audio.samples, audio.sample_rate, utterance.text, name=utterance.id)
        if self.max_cost is not None and aligned.cost > self.max_cost:
            raise AlignmentError(
                "cost",
                f"{utterance.id} has a cost of {aligned.cost:.2f}; it should be at most {self.max_cost:g} "
                "(--max-cost). Check its text.",
            )
        return aligned

    def targets(self, utterances: "tuple[Utterance, ...]") -> dict[str, Path]:
        """The file to write for each id.

        **Raises:** `ConfigError` if a file would be outside OUTPUT, or exists and --overwrite is not given.
        """
        targets = {utterance.id: self.output / f"{utterance.id}{_SUFFIX}" for utterance in utterances}
        root = self.output.resolve()
        for name, target in targets.items():
            if not target.resolve().is_relative_to(root):
                raise ConfigError(f"The utterance {name!r} would be written outside {self.output}; rename it.")
        existing = [target for target in targets.values() if target.exists()]
        if existing and not self.overwrite:
            raise ConfigError(
                f"{len(existing)} TextGrid(s) exist, for example {existing[0]}; choose another OUTPUT or add "
                "--overwrite."
            )
        return targets


def _with_name(failure: Exception, utterance: "Utterance") -> str:
    """The message of `failure` with the name of the utterance."""
    from jaxvoice.data import AlignmentError

    message = str(failure)
    # A TextError may begin with a word of the text that equals the name.
    named = message.startswith(f"{utterance.id} ") and not isinstance(failure, TextError)
    # The messages of all AlignmentErrors contain the name.
    return message if named or isinstance(failure, AlignmentError) else f"{utterance.id}: {message}"
