"""The layout of the released TorchScript archive of HiFi-VC."""

from typing import Any

from jaxvoice.config import format_value
from jaxvoice.errors import ConfigError
from jaxvoice.models.checkpoint_layout import Checkpoint, CheckpointLayout, ImportOptions, ImportPlan, plan_weights
from jaxvoice.models.hifivc.archive_parts import speaker_prefix
from jaxvoice.models.hifivc.archive_structure import LAYERS_KEY, ArchiveStructure
from jaxvoice.models.hifivc.config import HiFiVCConfig
from jaxvoice.models.hifivc.open_questions import questions_text
from jaxvoice.models.hifivc.weights import archive_ignored, archive_rules, folded_tensors, hifivc_shapes

_KEYS = ("content", "speaker", "pitch", "pitch_encoder", "decoder", "mel", "discriminators", LAYERS_KEY)
_LICENCE = (
    "Apache-2.0 according to tinkoff-ai/hifi_vc; the archive probably contains weights of NVIDIA, whose terms apply too"
)


class ArchiveLayout(CheckpointLayout):
    """The TorchScript archive `model.pt` of tinkoff-ai/hifi_vc.

    The layout was written from descriptions of the archive, and tested on archives of the same structure only.
    """

    name = "tinkoff-ai/hifi_vc"
    looks_for = "a TorchScript archive with a speaker encoder: pre_conv, convs, mean_conv and std_conv"

    def recognises(self, checkpoint: Checkpoint) -> bool:
        """Whether the file contains the speaker encoder of HiFi-VC, below any prefix."""
        return speaker_prefix(checkpoint.archive.tensors) is not None

    def plan_import(self, checkpoint: Checkpoint, options: ImportOptions) -> ImportPlan:
        """Plan the import of the encoders and the decoder.

        **Raises:** `CheckpointError` if the code of the archive has another structure; `ConfigError` for a
        configuration beside the archive with unknown keys, or one that contradicts the archive.
        """
        archive = checkpoint.archive
        structure = _structure(checkpoint)
        config = structure.config
        rules, ignored = archive_rules(structure), archive_ignored(structure)
        archive = archive.with_tensors(folded_tensors(archive.tensors, structure.content or ""))
        weights = plan_weights(archive, hifivc_shapes(config), rules, options, ignore=ignored)
        return ImportPlan(
            config,
            ((archive, weights.plan),),
            version=f"{config.decoder.upsample_initial_channel} channels, {_conditioning(config)}",
            origin=self.name,
            licence=_LICENCE,
            assumed=(
                "this layout was never verified on the released archive; see the open questions in report.md",
                f"std_conv computes the {config.speaker.deviation.replace('_', ' ')}",
                f"the front end of NeMo {config.content.nemo_release}",
                "the tracker of F0, the mel contract of the reference and the discriminators: the archive has none",
            ),
            patterns=weights.patterns,
            hints=weights.hints,
            report=questions_text(structure),
        )

    def open_questions(self, checkpoint: Checkpoint) -> str:
        """What the archive does not state by names and shapes, with the code that answers it."""
        return questions_text(_structure(checkpoint))


def _structure(checkpoint: Checkpoint) -> ArchiveStructure:
    table: dict[str, Any] = dict(checkpoint.config or {})
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise ConfigError(
            f"{checkpoint.config_path or 'the configuration'} has an unknown key {format_value(unknown[0])}; known "
            f"keys are {', '.join(_KEYS)}."
        )
    return ArchiveStructure(checkpoint.archive, table)


def _conditioning(config: HiFiVCConfig) -> str:
    pitch = "no pitch encoder" if config.pitch_encoder is None else f"pitch encoder of {config.pitch_channels}"
    return f"speaker vector in {config.decoder.conditioning.replace('_', ' ')}, {pitch}"
