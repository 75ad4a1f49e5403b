"""A web page for live bending: choose layers, move controls, and hear the result."""

import functools as ft
import html
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int16

from jaxvoice.config import format_value
from jaxvoice.dissect import (
    Affine,
    Bend,
    BendingConfig,
    Bias,
    Control,
    Mask,
    Noise,
    OrderedMask,
    Permute,
    Scale,
    Table,
    Threshold,
    plot_audio,
)
from jaxvoice.errors import AudioError, ConfigError, JaxvoiceError, MissingExtraError
from jaxvoice.pipelines.bender import Bender, Kind, NamedArray, Source, with_defaults

SLIDERS = 24
"""The largest number of controls that the page shows."""
_LISTED = 200  # rows of the list of matches
_Audio = Float32[np.ndarray, "samples channels"]
_MakeControl = Callable[[str, float, float, float], Control]


@dataclass(frozen=True)
class _Choice:
    """An operation of the page."""

    build: Callable[[_MakeControl, bool], Any]
    """The operation, from a function that makes controls, and from whether it changes weights."""
    amount: float = 1.0
    """First value of the amount; 0 for operations that change an array for all values of their controls."""


def _axes(of_weights: bool) -> tuple[int, ...]:
    return (0,) if of_weights else (-1,)  # channels


CHOICES: Mapping[str, _Choice] = {
    "scale": _Choice(lambda control, _: Scale(control("scale", 1, -4, 4))),
    "bias": _Choice(lambda control, _: Bias(control("bias", 0, -2, 2))),
    "affine": _Choice(lambda control, _: Affine(control("scale", 1, -4, 4), control("bias", 0, -2, 2))),
    "mask": _Choice(lambda control, weights: Mask(control("keep", 1, 0, 1), _axes(weights))),
    "ordered mask": _Choice(lambda control, weights: OrderedMask(control("keep", 1, 0, 1), _axes(weights))),
    "threshold": _Choice(
        lambda control, weights: Threshold(control("keep", 1, 0, 1), _axes(weights)[0], (1, 2) if weights else (-2,))
    ),
    "add noise": _Choice(lambda control, weights: Noise(control("std", 0, 0, 4), "add", None if weights else (-1,))),
    "multiply by noise": _Choice(
        lambda control, weights: Noise(control("std", 1, 0, 4), "multiply", None if weights else (-1,)), amount=0
    ),
    "permute": _Choice(lambda control, weights: Permute(_axes(weights)[0]), amount=0),
}
"""The operations of the page by name. Random operations choose channels."""


class RuleRow(NamedTuple):
    """A rule in the table of the page."""

    rule: str
    operation: str
    names: tuple[str, ...]
    on: str
    controls: tuple[str, ...]


def make_rule(config: BendingConfig, names: str, kind: Kind, choice: str, seed: int = 0) -> Bend:
    """A rule whose numbers are controls with names that `config` does not have.

    **Arguments:** `names`, a regular expression; `choice`, one of `CHOICES`; `seed`, of random operations.
    """
    number = 1
    while any(name.endswith(f" {number}") for name in config.controls):
        number += 1

    def control(name: str, default: float, low: float, high: float) -> Control:
        return Control(f"{name} {number}", float(default), low=low, high=high)

    chosen = CHOICES[choice]
    amount = control("amount", chosen.amount, 0, 1)
    return Bend(chosen.build(control, kind == "weights"), (names,), on=kind, seed=seed, amount=amount)


class PanelSession:
    """What the page computes; it depends on no web framework.

    **Attributes:** `bender`, which plays recordings.
    """

    def __init__(self, bender: Bender):
        self.bender = bender
        self._read: tuple[Any, Source, _Audio] | None = None  # the last recording, and its audio without rules

    def matches_html(self, pattern: str, kind: Kind) -> str:
        """A table of what a pattern matches, or the error, as HTML."""
        try:
            found = self.bender.matches(pattern, kind)
        except ConfigError as failure:
            return f"<p>{html.escape(str(failure))}</p>"
        shown = "" if len(found) <= _LISTED else f", of which the first {_LISTED} are shown"
        table = Table(tuple(found[:_LISTED]), NamedArray._fields)._repr_html_()
        return f"<p>{len(found)} match{'es' * (len(found) != 1)}{shown}</p>{table}"

    def add(self, config: BendingConfig, names: str, kind: Kind, choice: str, seed: Any) -> BendingConfig:
        """`config` with another rule.

        **Raises:** `ConfigError` for a pattern that matches nothing, an invalid seed, or more controls than sliders.
        """
        self.bender.matches(names, kind)
        return checked(config + BendingConfig((make_rule(config, names, kind, choice, _whole("The seed", seed)),)))

    def play(
        self, path: str | None, seed: Any, config: BendingConfig, values: Mapping[str, float]
    ) -> tuple[_Audio, _Audio, str]:
        """The audio of a recording without rules, with rules, and a description of both.

        **Raises:** `AudioError` without a recording, or for one that cannot be read; the errors of `Bender.play`.
        """
        if not path:
            raise AudioError("There is no recording. Choose a file, or record one.")
        given = (path, _whole("The seed", seed))
        if self._read is None or self._read[0] != given:
            source = self.bender.read(path, seed=given[1])
            self._read = given, source, self.bender.play(source)
        _, source, original = self._read
        bent = self.bender.play(source, config, values)
        rate = self.bender.sample_rate
        lines = [f"{len(bent) / rate:.2f} s at {rate} Hz, seed {given[1]}."]
        if source.is_cut:
            lines.append(
                f"The recording has {source.seconds:.1f} s, of which the first {self.bender.seconds:g} s are used."
            )
        lines.append(_difference(original, bent))
        for name, audio in (("original", original), ("bent", bent)):
            if (peak := np.abs(audio).max()) > 1:
                lines.append(f"The peak of the {name} audio is {peak:.3g}; it is played with a peak of 1.")
        return original, bent, " ".join(lines)


def checked(config: BendingConfig) -> BendingConfig:
    """`config`; raises `ConfigError` if the page has too few sliders for it, or no other arrays that it needs."""
    if len(config.controls) > SLIDERS:
        raise ConfigError(
            f"The rules have {len(config.controls)} controls; there should be at most {SLIDERS}. Remove rules, or give "
            "controls the same name."
        )
    mixing = [rule for rule in config.rules if getattr(rule.operation, "sources", ())]
    if mixing:
        raise ConfigError("A rule mixes arrays of other models, which the page does not have. Remove it from the file.")
    return config


def _whole(name: str, value: Any) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < 2**32 or value != int(value):
        raise ConfigError(f"{name} is {format_value(value)}; it should be a whole number from 0 to {2**32 - 1}.")
    return int(value)


def _difference(original: _Audio, bent: _Audio) -> str:
    difference, level = np.sqrt(np.mean(np.square(bent - original))), np.sqrt(np.mean(np.square(original)))
    if difference == 0:
        return "The bent audio is equal to the original."
    if level == 0:
        return f"The original is silent; the RMS of the bent audio is {difference:.3g}."
    return f"The difference from the original has {20 * np.log10(difference / level):+.1f} dB of its level."


def pcm16(audio: _Audio) -> Int16[np.ndarray, "samples *channels"]:
    """`audio` as 16-bit integers, divided by its peak if that is above 1; one channel has no axis."""
    scaled = audio / max(1.0, float(np.abs(audio).max(initial=0)))
    samples = np.rint(scaled * 32767).astype(np.int16)
    return samples[:, 0] if samples.shape[1] == 1 else samples


def rules_html(config: BendingConfig) -> str:
    """A table of the rules as HTML."""
    if not config.rules:
        return "<p>There are no rules.</p>"
    rows = tuple(
        RuleRow(
            str(i),
            _described(rule),
            rule.names,
            rule.on,
            tuple(control.name for control in rule.controls),
        )
        for i, rule in enumerate(config.rules, 1)
    )
    return Table(rows, RuleRow._fields)._repr_html_()


def _described(rule: Bend) -> str:
    """The operation of a rule, with its numbers that are no controls, and the seed if it is not 0."""
    operation: Any = rule.operation
    found = {field.name: getattr(operation, field.name) for field in fields(operation)}
    found |= {"seed": rule.seed} if rule.seed else {}
    shown = [f"{name}={format_value(value)}" for name, value in found.items() if not isinstance(value, Control)]
    return type(operation).__name__ + (f" ({', '.join(shown)})" if shown else "")


def gradio_module() -> Any:
    """The package gradio; raises `MissingExtraError` if it is not installed."""
    try:
        import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as failure:
        raise MissingExtraError(
            "The panel is a page of gradio, which is not installed: pip install 'jaxvoice[panel]'."
        ) from failure
    return gradio


def bending_panel(
    bender: Bender, recording: str | Path | None = None, *, config: BendingConfig | None = None, title: str = "model"
) -> Any:
    """The page for a model, a `gradio.Blocks`; `serve` opens it.

    **Arguments:** `bender`; `recording`, the file that the page has first; `config`, the first rules; `title`, the name
    of the model.

    **Raises:** `MissingExtraError` without the extra `panel`; `ConfigError` for a `config` with too many controls.
    """
    gr = gradio_module()
    session, config = PanelSession(bender), checked(BendingConfig() if config is None else config)
    folder = tempfile.mkdtemp(prefix="jaxvoice-panel-")

    def handler(function: Callable[..., Any]) -> Callable[..., Any]:
        @ft.wraps(function)
        def handle(*args: Any) -> Any:
            try:
                return function(*args)
            except JaxvoiceError as failure:
                raise gr.Error(str(failure), duration=None, print_exception=False) from failure

        return handle

    def slider_values(config: BendingConfig, values: Iterable[float]) -> dict[str, float]:
        return dict(zip(config.controls, values, strict=False))

    def shown(config: BendingConfig, values: Mapping[str, float]) -> list[Any]:
        """The values of all components that depend on the rules."""
        numbers = _rule_numbers(config)
        dropdown = gr.Dropdown(choices=numbers, value=numbers[-1] if numbers else None)
        return [config, rules_html(config), dropdown, *_sliders(gr, config, values)]

    @handler
    def add(names: str, kind: Kind, choice: str, seed: Any, config: BendingConfig, *values: float) -> list[Any]:
        return shown(session.add(config, names, kind, choice, seed), slider_values(config, values))

    @handler
    def remove(number: str | None, config: BendingConfig, *values: float) -> list[Any]:
        rules = tuple(rule for i, rule in enumerate(config.rules, 1) if str(i) != number)
        return shown(BendingConfig(rules), slider_values(config, values))

    @handler
    def play(path: str | None, seed: Any, config: BendingConfig, *values: float) -> tuple[Any, ...]:
        original, bent, text = session.play(path, seed, config, slider_values(config, values))
        rate = bender.sample_rate
        sounds = [(rate, pcm16(audio)) for audio in (original, bent)]
        return *sounds, text, *(plot_audio(audio.mean(axis=1), rate) for audio in (original, bent))

    @handler
    def save(config: BendingConfig, *values: float) -> str:
        path = Path(tempfile.mkdtemp(dir=folder)) / "bending.json"
        with_defaults(config, slider_values(config, values)).save(path)
        return str(path)

    @handler
    def load(path: str) -> list[Any]:
        return shown(checked(BendingConfig.load(path)), {})

    with gr.Blocks(title=f"Bend {title}", analytics_enabled=False) as page:
        gr.Markdown(f"# Bend {title}\nThe first {bender.seconds:g} s of a recording, through the model.")
        rules = gr.State(config)
        with gr.Row():
            with gr.Column():
                audio = gr.Audio(
                    value=None if recording is None else str(recording), type="filepath", label="Recording"
                )
                seed = gr.Number(0, label="Seed of the noise in the model", precision=0)
                play_button = gr.Button("Bend and play", variant="primary")
                status = gr.Textbox(label="Result", interactive=False, elem_id="result")
            with gr.Column():
                original = gr.Audio(label="Original", interactive=False, elem_id="original")
                bent = gr.Audio(label="Bent", interactive=False, autoplay=True, elem_id="bent")
        with gr.Row():
            with gr.Column():
                gr.Markdown("## Add a rule")
                kind = gr.Radio(["activations", "weights"], value="activations", label="What is changed")
                pattern = gr.Textbox(".*", label="Names (a regular expression for whole names)", elem_id="pattern")
                matches = gr.HTML(session.matches_html(".*", "activations"), elem_id="matches")
                choice = gr.Dropdown(list(CHOICES), value="scale", label="Operation")
                rule_seed = gr.Number(0, label="Seed of random operations", precision=0)
                add_button = gr.Button("Add rule")
            with gr.Column():
                gr.Markdown("## Rules\nA change of rules compiles a program. Controls take effect at once.")
                table = gr.HTML(rules_html(config), elem_id="rules")
                with gr.Row():
                    number = gr.Dropdown(_rule_numbers(config), label="Rule")
                    remove_button = gr.Button("Remove rule")
                sliders = _sliders(gr, config, {})
                with gr.Row():
                    save_button = gr.Button("Save rules")
                    load_button = gr.UploadButton("Load rules", file_types=[".json"])
                saved = gr.File(label="Saved rules", interactive=False, height=90, elem_id="saved")
        with gr.Row():
            pictures = [_picture(gr, name) for name in ("Original", "Bent")]

        shown_outputs = [rules, table, number, *sliders]
        gr.on([pattern.change, kind.change], session.matches_html, [pattern, kind], matches, show_progress="hidden")
        add_button.click(add, [pattern, kind, choice, rule_seed, rules, *sliders], shown_outputs)
        remove_button.click(remove, [number, rules, *sliders], shown_outputs)
        save_button.click(save, [rules, *sliders], saved)
        load_button.upload(load, load_button, shown_outputs)
        # A control that moves while audio is computed is played afterwards, with its last value.
        gr.on(
            [play_button.click, *(slider.release for slider in sliders)],
            play,
            [audio, seed, rules, *sliders],
            [original, bent, status, *pictures],
            trigger_mode="always_last",
            api_name="play",
        )
    weakref.finalize(page, shutil.rmtree, folder, ignore_errors=True)
    return page


def _picture(gr: Any, name: str) -> Any:
    with gr.Column():
        gr.Markdown(f"### {name}")
        return gr.Plot(label=name, show_label=False)


def _rule_numbers(config: BendingConfig) -> list[str]:
    return [str(number) for number in range(1, len(config) + 1)]


def slider_range(control: Control, value: float) -> tuple[float, float]:
    """The ends of the slider of a control, which are those of the control if it has any.

    The ends of sliders differ: a control with a single value has a slider that cannot be moved.
    """
    low, high = control.low, control.high
    if low is None:
        low = min(value, -10.0) if high is None else min(value, -10.0, high - 10)
    if high is None:
        high = max(value, 10.0, low + 10)
    return low, high if low < high else low + max(1.0, abs(low))


def _sliders(gr: Any, config: BendingConfig, values: Mapping[str, float]) -> list[Any]:
    """A slider for each control, and hidden ones, since a page has a fixed number of components."""
    found = []
    for name, control in config.controls.items():
        value = values.get(name, control.default)
        low, high = slider_range(control, value)
        moves = control.low is None or control.low != control.high
        options = {"label": name, "visible": True, "interactive": moves}
        found.append(gr.Slider(low, high, value, step=(high - low) / 200, **options))
    return found + [gr.Slider(visible=False) for _ in range(SLIDERS - len(found))]


def serve(page: Any, *, host: str = "127.0.0.1", port: int | None = None, wait: bool = True) -> str:
    """Serve a page, and return its address.

    **Arguments:** `host`, the address to listen on; `port`, by default the first free one from 7860; `wait`, until the
    process is interrupted, or return at once.

    **Raises:** `ConfigError` if the port is not free, or for an address that the machine does not have.
    """
    gr = gradio_module()
    # Fonts of the system, so that the page sends no request to a font server.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    page.queue(default_concurrency_limit=1)
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            ssr_mode=False,
            show_error=True,
            prevent_thread_lock=True,
            footer_links=[],
            theme=theme,
        )
    except OSError as failure:
        raise ConfigError(
            f"The page cannot be served at {host}{'' if port is None else f':{port}'} ({failure}); choose another "
            "--host or --port."
        ) from failure
    if wait:
        page.block_thread()
    return address
