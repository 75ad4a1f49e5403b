"""The open questions about the released archive of HiFi-VC, with the code of an archive that answers them.

Nobody has published the code that wrote the archive. Whoever has the archive can answer the questions with this text.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from jaxvoice.console import printable
from jaxvoice.errors import JaxvoiceError
from jaxvoice.models.hifivc.archive_structure import ArchiveStructure
from jaxvoice.text_tables import shortened
from jaxvoice.torchscript.printer import module_code

_LONGEST = 40
_ATTRIBUTE = re.compile(r'\s*\w+ = (getattr\(\w+, "[^"]*"\)|\w+(\.\w+)+)\s*(#.*)?')
_NUMBER = re.compile(r"(?<![\w.])[0-9]{3,}(?![\w.])")
_SIZED = re.compile(r"torch\.(slice|zeros|ones|arange|full|view|reshape|expand|narrow)\(")
_DIGITS = 10  # a slice to the end of an axis is written with the largest integer


@dataclass(frozen=True)
class OpenQuestion:
    """A setting that is unknown until someone reads it in the archive."""

    title: str
    """What is unknown."""
    found: str
    """What the archive states, or why it could not be read."""
    assumed: str
    """What an import assumes where the archive does not state it."""
    override: str
    """The configuration that changes the result."""
    code: tuple[str, ...]
    """The lines of the code of the archive."""
    module: str = ""
    """The module of the code."""


def open_questions(structure: ArchiveStructure) -> list[OpenQuestion]:
    """The questions, in the order of their importance."""
    return [_fusion(structure), _alignment(structure), _speaker(structure), _deviation(structure),
            _content(structure), _decoder(structure), _constants(structure)]  # fmt: skip


def questions_text(structure: ArchiveStructure) -> str:
    """The questions as Markdown."""
    parts = [
        "## Open questions",
        "",
        "What an archive of HiFi-VC does not state by names and shapes. For each question: what was found in the code "
        "of this archive, what was assumed, and how to change it. Changes are written to a JSON file that is passed "
        "with `--config`. Its key `layers` maps layers of the model to layers of the archive.",
        "",
    ]
    for number, question in enumerate(open_questions(structure), 1):
        parts += [f"### {number}. {question.title}", "", f"- found: {question.found}", f"- assumed: {question.assumed}"]
        parts += [f"- to change: {question.override}"]
        if question.code:
            command = f"jaxvoice inspect {structure.where} --code {question.module or '.'}"
            parts += [f"- code of {question.module or 'the top module'}, in part (all of it: `{command}`):", ""]
            parts += [f"      {line}" for line in question.code]
        parts.append("")
    return "\n".join(parts)


def _read(describe: Callable[[], str]) -> str:
    """The text of a finding; the message of an error if the structure cannot be read."""
    try:
        return describe()
    except JaxvoiceError as problem:
        return f"not determined: {problem}"


def _code(structure: ArchiveStructure, module: str, words: Iterable[str]) -> tuple[str, ...]:
    """The lines of a module's code that contain one of `words`, without those that only read attributes."""
    try:
        lines = module_code(structure.archive, module, width=110)
    except JaxvoiceError as problem:
        return (str(problem),)
    pattern = re.compile("|".join(words))
    kept = [
        line
        for line in lines
        if not line.lstrip().startswith("#")
        and not _ATTRIBUTE.fullmatch(line)
        and pattern.search(line.partition("#")[0])
    ]
    more = len(kept) - _LONGEST
    return (*kept[:_LONGEST], *((f"... {more} more lines",) if more > 0 else ()))


def _common(structure: ArchiveStructure) -> str:
    """The module that calls the encoders and the decoder: the parent of the speaker encoder."""
    return structure.speaker.rstrip(".").rpartition(".")[0]


def _decoder_module(structure: ArchiveStructure) -> str:
    """The module that calls the upsampling layers."""
    try:
        return structure.decoder.rstrip(".")
    except JaxvoiceError:
        return ""


def _fusion(structure: ArchiveStructure) -> OpenQuestion:
    def describe() -> str:
        pre, up = structure.first_convolution, structure.ups[0]
        pitch = structure.pitch_convolutions
        layers = ", ".join(
            f"{conv.inputs} to {conv.outputs} channels, kernel {conv.kernel}, stride {conv.stride}" for conv in pitch
        )
        return (
            f"fusion {structure.fusion}. {pre.path}: {pre.inputs} to {pre.outputs} channels, kernel {pre.kernel}. "
            f"{up.path} reads {up.inputs} channels. Pitch encoder {structure.pitch_module or '(none)'}: "
            f"{layers or 'no convolutions'}."
        )

    module = _common(structure)
    return OpenQuestion(
        "Fusion of content and F0, sizes of conv_pre and of the pitch encoder",
        _read(describe),
        "the convolution whose input has 2 channels starts the pitch encoder, and the other one before the first "
        "upsampling is conv_pre. The order of leaky ReLU and instance norm is that of PPG-VC",
        '`{"decoder": {"fusion": "sum"}}`, `{"pitch_encoder": {"slope": 0.2}}`, '
        '`{"layers": {"decoder.conv_pre": "PATH"}}`',
        _code(structure, _decoder_module(structure), (r"torch\.cat", r"torch\.add", "forward", "NumTo")),
        _decoder_module(structure) or module,
    )


def _alignment(structure: ArchiveStructure) -> OpenQuestion:
    module = _common(structure)
    words = ("slice", "interpolate", "pad", "forward", "size", "cat", "narrow")

    def describe() -> str:
        ends = [structure.ups[0].at]
        names = ("slice", "interpolate", "upsample_linear1d", "upsample_nearest1d", "pad", "narrow")
        found = [
            f"{step.call.name} in {step.path or 'the top module'}"
            for step in structure.steps[: ends[0]]
            if step.call.name in names and not f"{step.path}.".startswith(structure.content or "\0")
            and (structure.front_end is None or step.path != structure.front_end.path)
        ]  # fmt: skip
        return ", ".join(dict.fromkeys(found)) or "no operator changes a length before the decoder"

    return OpenQuestion(
        "Lengths of the F0 and of the content features",
        _read(describe),
        "none: the model reads exactly four values of F0 for each content frame, and the caller provides them",
        "`jaxvoice.dsp.pitch_features(f0, frames)` crops or extends F0",
        _code(structure, module, words),
        module,
    )


def _speaker(structure: ArchiveStructure) -> OpenQuestion:
    module = structure.speaker.rstrip(".")

    def describe() -> str:
        fields = structure.fields["speaker"]
        heads = "no activation" if fields["head_slope"] is None else f"a leaky ReLU of slope {fields['head_slope']}"
        return (
            f"pre_conv_padding {fields['pre_conv_padding']}, skip_bias {fields['skip_bias']}, {heads} before the "
            f"heads, pooling {fields['pooling'].replace('_', ' the ')}"
        )

    words = ("pool", "leaky", "relu", "mean", "forward", "activation")
    return OpenQuestion(
        "Padding of pre_conv, bias of conv_skip, activation and pooling before the heads",
        _read(describe),
        "none, if the code could be read: an activation is found if it is a leaky ReLU",
        '`{"speaker": {"pre_conv_padding": 1, "head_slope": 0.2, "pooling": "after_heads"}}`',
        _code(structure, module, words),
        module,
    )


def _deviation(structure: ArchiveStructure) -> OpenQuestion:
    module = structure.speaker.rstrip(".")
    layer = structure.layers.get(f"{structure.speaker}std_conv")
    used = layer is not None and layer.used and any(layer.methods.values())
    return OpenQuestion(
        "Meaning of std_conv",
        "std_conv is computed; see what follows it" if used else "std_conv is not computed in the archive",
        "the logarithm of the variance. Conversions do not depend on it, since they use the mean",
        '`{"speaker": {"deviation": "log_deviation"}}` or `"deviation"`',
        _code(structure, module, ("std_conv", "exp", "softplus", "randn")),
        module,
    )


def _content(structure: ArchiveStructure) -> OpenQuestion:
    def describe() -> str:
        fields = structure.fields["content"]
        front = structure.front_end
        shape = ", ".join(f"{name} {fields[name]}" for name in ("layers", "dim", "heads", "kernel_size", "xscaling"))
        transform = "no Fourier transform in the archive"
        if front is not None:
            mel = fields["mel"]
            transform = (
                f"a Fourier transform in {front.path or 'the top module'}: n_fft {mel['n_fft']}, hop "
                f"{mel['hop_length']}, window {mel['win_length']}"
            )
        return f"{_module_name(structure.content)}: {shape}; {transform}"

    front = structure.front_end
    module = (front.path if front is not None else None) or _common(structure)
    return OpenQuestion(
        "The speech recogniser, the layer of its features, and its front end",
        _read(describe),
        "the output of the last layer, and the front end of NeMo 1.7 with 80 bands, pre-emphasis 0.97 and features "
        "normalised over the recording",
        '`{"content": {"nemo_release": "2.6", "mel": {"preemphasis": 0.0}, "xscaling": false}}`',
        _code(structure, module, ("stft", "log", "mul", "std", "matmul", "forward", "pad", "sub")),
        module,
    )


def _module_name(prefix: str | None) -> str:
    """A prefix of names as the name of a module."""
    return (prefix or "").rstrip(".") or "the top module"


def _decoder(structure: ArchiveStructure) -> OpenQuestion:
    def describe() -> str:
        fields = structure.fields["decoder"]
        norm = "a layer norm" if fields["input_norm"] else "no layer norm"
        return (
            f"{norm} before conv_pre, slope {fields['final_slope']} before conv_post, speaker projections "
            f"{fields['conditioning']}"
        )

    module = _decoder_module(structure)
    return OpenQuestion(
        "Norm of the decoder's input, slope before the last convolution, place of the speaker vector",
        _read(describe),
        "one leaky ReLU before and one after the sum of the projection, as in the code of a residual block",
        '`{"decoder": {"final_slope": 0.1, "input_norm": false}}`',
        _code(structure, module, ("layer_norm", "norm", r"leaky_relu", "conv_post", "tanh")),
        module,
    )


def _constants(structure: ArchiveStructure) -> OpenQuestion:
    found: dict[str, None] = {}
    code = structure.archive.code  # pyright: ignore[reportAttributeAccessIssue]
    for line in (line.strip() for name in code for line in code[name].splitlines()):
        device = "torch.device(" in line and 'torch.device("cpu")' not in line
        sizes = [number for number in _NUMBER.findall(line) if len(number) < _DIGITS]
        if device or (sizes and _SIZED.search(line)):
            found[shortened(printable(line), 110)] = None
    lines = tuple(list(found)[:_LONGEST])
    return OpenQuestion(
        "Constants of the trace: devices and lengths",
        f"{len(found)} lines with a device other than the CPU, or with a number of three or more digits as a size",
        "none: the imported model contains no constants of the trace",
        "nothing; a constant length in the archive is a limit of the archive, not of the import",
        lines,
    )
