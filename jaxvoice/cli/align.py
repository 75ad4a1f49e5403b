"""`jaxvoice align`: when each phoneme of recordings is heard, for training text to speech on them."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jaxvoice.cli._folders import make_folder
from jaxvoice.cli.caching import use_compilation_cache
from jaxvoice.console import print_text
from jaxvoice.errors import AudioError, ConfigError, DataError, TextError

if TYPE_CHECKING:
    from jaxvoice.data import Utterance
    from jaxvoice.pipelines import Aligner
    from jaxvoice.pipelines.aligner import ForcedAlignment

_SUFFIX = ".TextGrid"


@dataclass(frozen=True)
class Align:
    """Align the recordings of CORPUS with their texts: one Praat TextGrid for each, in the folder OUTPUT.

    Understood are the layouts that come with texts: LJSpeech's, VCTK's, and file lists with lines id|text. What cannot
    be aligned is left out, counted and told.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CORPUS")]
    """The corpus: a folder, or a file list."""
    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder for the TextGrids, which is made if needed."""
    model: str
    """Text-to-speech model: model folder, run folder, or Hub id (owner/name)."""
    corpus: Literal["auto", "ljspeech", "vctk", "filelist"] = "auto"
    """Kind of corpus, where it should not be detected."""
    audio_dir: Path | None = None
    """Folder of the audio of a file list, where it is not beside it."""
    max_cost: float | None = None
    """Leave out what fits worse than this; see the costs that are told."""
    overwrite: bool = False
    """Write over TextGrids that OUTPUT already holds."""
    debug: bool = False
    """Show the traceback of an error."""

    def run(self) -> int:
        """Align every recording; returns 0."""
        from tqdm import tqdm

        from jaxvoice.data import find_corpus
        from jaxvoice.data.aligned.report import RejectedUtterance, table
        from jaxvoice.data.aligned.textgrid_writing import write_textgrid

        found = find_corpus(self.path, self.corpus, self.audio_dir)
        targets = self.targets(found.utterances)
        use_compilation_cache()
        from jaxvoice.pipelines import Aligner

        aligner = Aligner(self.model)
        rejected: list[RejectedUtterance] = []
        costs: dict[str, float] = {}
        seconds = 0.0
        # disable=None: no bar where stderr is no terminal.
        for utterance in tqdm(found.utterances, unit="file", disable=None):
            try:
                fit = self.align(aligner, utterance)
                target = targets[utterance.id]
                make_folder(target.parent)
            except (AudioError, DataError, TextError) as failure:
                kind = "audio" if isinstance(failure, AudioError) else getattr(failure, "kind", "text")
                rejected.append(RejectedUtterance(utterance.id, kind, _named(failure, utterance)))
                continue
            write_textgrid(target, fit.alignment)
            costs[utterance.id] = fit.cost
            seconds += fit.alignment.seconds
        if rejected:
            print_text(table((), rejected, found.root, {}))
        if not costs:
            raise DataError(f"None of the {len(rejected)} utterance(s) of {self.path} could be aligned.")
        worst = max(costs, key=lambda name: costs[name])
        print_text(
            f"{self.output}: {len(costs)} of {len(found)} utterances aligned, {seconds / 60:.1f} minutes; cost "
            f"{statistics.median(costs.values()):.2f} (median), {costs[worst]:.2f} (worst, {worst})"
        )
        return 0

    def align(self, aligner: "Aligner", utterance: "Utterance") -> "ForcedAlignment":
        """The alignment of one utterance; raises `Misfit`, `TextError` or `AudioError` for what is to be left out."""
        from jaxvoice.data import read_audio
        from jaxvoice.data.aligned import Misfit

        if not utterance.text.strip():
            raise Misfit("no text", f"{utterance.id} has no text.")
        audio = read_audio(utterance.path)
        fit = aligner.align(audio.samples, audio.sample_rate, utterance.text, name=utterance.id)
        if self.max_cost is not None and fit.cost > self.max_cost:
            raise Misfit(
                "cost",
                f"{utterance.id} fits at a cost of {fit.cost:.2f} ({self.max_cost:g} are allowed); check its text.",
            )
        return fit

    def targets(self, utterances: "tuple[Utterance, ...]") -> dict[str, Path]:
        """The file to write for each id.

        **Raises:** `ConfigError` if one would be outside OUTPUT, or is there already and shall not be written over.
        """
        targets = {utterance.id: self.output / f"{utterance.id}{_SUFFIX}" for utterance in utterances}
        root = self.output.resolve()
        for name, target in targets.items():
            if not target.resolve().is_relative_to(root):
                raise ConfigError(f"The utterance {name!r} would be written outside {self.output}; rename it.")
        there = [target for target in targets.values() if target.exists()]
        if there and not self.overwrite:
            raise ConfigError(
                f"{len(there)} TextGrid(s) are there already, for example {there[0]}; choose another OUTPUT, or give "
                "--overwrite."
            )
        return targets


def _named(failure: Exception, utterance: "Utterance") -> str:
    """What went wrong, after the name of the utterance."""
    told = str(failure)
    # What is wrong with a text never begins with the name, but may with a word that looks like it.
    named = told.startswith(f"{utterance.id} ") and not isinstance(failure, TextError)
    return told if named else f"{utterance.id}: {told}"
