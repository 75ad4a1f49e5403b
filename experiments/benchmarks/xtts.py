"""Speed of XTTS at full size: jaxvoice compared with torch, with equal random weights.

    python -m experiments.benchmarks.xtts --json xtts.json

- `codes`: the language model, `codes` codes after a reference and a text, batch 1, the most likely code each time.
    torch concatenates its cache of keys and values, as `transformers` does.
- `dvae encode`, `dvae decode`: a mel spectrogram of `seconds` to codes and back.
- `decoder`: the latents of `seconds` to audio, weight norm folded.
- `first audio`: text to the first block of audio. Without streaming, the original generates all codes, computes their
    latents in a second pass and decodes them. With streaming, it decodes after the first 20 codes.
- `stream`: the decoding of a stream at growing lengths, without the language model. The original decodes all vectors so
    far after every 20 codes.

The engines take turns, and the precision is float32, except that of a third engine of `codes` (`--bfloat16`). Codes of
float32 must be equal, other results to 1e-4 of the largest value.
The bandwidth of memory is that of a sum over an array of 1 GiB; a code needs all weights of the transformer and of the
head once.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import tyro
from jaxtyping import Float32

from experiments.benchmarks import common, flops
from experiments.benchmarks.timing import Harness, TimingOptions
from jaxvoice.config import to_dict
from jaxvoice.models.xtts.config import SamplingConfig, XTTSConfig, preset
from jaxvoice.models.xtts.inference import CODES_PER_CALL, FIRST_CODES
from jaxvoice.training.process import keep_freed_memory

Work = Literal["codes", "dvae encode", "dvae decode", "decoder", "first audio", "stream"]
Array = Float32[np.ndarray, "..."]
TOLERANCE = 1e-4
_BFLOAT16 = "jaxvoice, bfloat16"
ORIGINAL_CHUNK = 20
"""Codes after which the original decodes a stream again."""


@dataclass(frozen=True, kw_only=True)
class Options(TimingOptions):
    """Settings of the benchmark."""

    works: tuple[Work, ...] = get_args(Work)
    """What is measured."""
    seconds: float = 10.0
    """Length of the audio of the DVAE, of the decoder and of `first audio`, in seconds."""
    codes: int = 40
    """Codes of the work `codes`."""
    tokens: int = 62
    """Text tokens with start and stop."""
    lengths: tuple[float, ...] = (5.0, 10.0, 20.0)
    """Lengths of the streams, in seconds."""
    layers: int | None = None
    """Layers of the language model, by default those of the release."""
    bfloat16: bool = False
    """Also measure `codes` with the weights of the transformer in bfloat16."""
    repeats: int = 7
    """Rounds of each comparison."""
    max_seconds: float = 90.0
    """Stop a comparison after this time in seconds, but not before three rounds."""


def config_of(options: Options) -> XTTSConfig:
    """The configuration of XTTS v2."""
    config = preset("v2")
    return config if options.layers is None else replace(config, gpt=replace(config.gpt, layers=options.layers))


def without_stop(config: XTTSConfig, bias: Array) -> Array:
    """The bias of the head with which the stop is never chosen."""
    bias = bias.copy()
    bias[config.gpt.stop_audio] = -1e4
    return bias


def torch_language_model(config: XTTSConfig) -> Any:
    """The language model of torch, with the same weights in every call."""
    import torch

    from experiments.benchmarks.torch_xtts import LanguageModel

    torch.manual_seed(0)
    model = LanguageModel(config.gpt)
    with torch.no_grad():
        # Larger logits than those of initial weights, so that rounding does not change the choice of codes.
        model.mel_head.weight.mul_(50)
        model.mel_head.bias.copy_(torch.from_numpy(without_stop(config, model.mel_head.bias.detach().numpy())))
    return model.eval().requires_grad_(False)


def jaxvoice_language_model(config: XTTSConfig) -> Any:
    """The language model of jaxvoice with the weights of torch; those of the networks for references are zero."""
    import equinox as eqx
    import jax

    from experiments.benchmarks.torch_hifigan import arrays_of
    from jaxvoice.models.xtts.gpt import GPT
    from jaxvoice.weights import load_state, named_arrays

    skeleton = eqx.filter_eval_shape(GPT, config.gpt, key=jax.random.key(0))
    zeros = {name: np.zeros(array.shape, array.dtype) for name, array in named_arrays(skeleton).items()}
    return load_state(skeleton, zeros | arrays_of(torch_language_model(config)))


def prompt_of(options: Options, config: XTTSConfig) -> tuple[Array, np.ndarray]:
    """The vectors of a reference, and a text with start and stop."""
    random = np.random.default_rng(1)
    conditioning = random.normal(0, 1, (1, config.gpt.conditioning.latents, config.gpt.channels)).astype(np.float32)
    text = random.integers(300, config.gpt.text_ids, (1, options.tokens)).astype(np.int32)
    text[0, 0], text[0, -1] = config.gpt.start_text, config.gpt.stop_text
    return conditioning, text


def generation_of(options: Options, config: XTTSConfig, network: Any) -> Callable[..., Any]:
    """The codes of the prompt in parts, by the programs of the pipeline: a function of their number and of `first`."""
    import jax

    from jaxvoice.models.xtts.inference import generate_in_parts
    from jaxvoice.models.xtts.transformer import freeze_projections

    # The penalty would change the order of the codes; the benchmark of torch has none.
    sampling = SamplingConfig(repetition_penalty=1.0, temperature=1.0, top_k=1, top_p=1.0)
    conditioning, text = prompt_of(options, config)
    keys = jax.random.split(jax.random.key(0), 1)
    texts, network = [text[0, 1:-1].tolist()], freeze_projections(network)

    def generate(count: int, **first: int) -> Any:
        return generate_in_parts(network, list(conditioning), texts, sampling, keys, max_codes=count, **first)

    return generate


def codes_calls(options: Options, config: XTTSConfig) -> dict[str, Callable[[], Any]]:
    """The work `codes` in both engines; the results are the codes."""
    import torch

    from jaxvoice.models.xtts.precision import with_precision

    def codes(generate: Callable[..., Any]) -> Callable[[], Any]:
        return lambda: np.concatenate([part.codes for (part,) in generate(options.codes)])

    network = jaxvoice_language_model(config)
    model = torch_language_model(config)
    conditioning, text = (torch.from_numpy(array) for array in prompt_of(options, config))
    calls: dict[str, Callable[[], Any]] = {
        "jaxvoice": codes(generation_of(options, config, network)),
        "torch": lambda: model.generate(conditioning, text.long(), options.codes)[0].numpy(),
    }
    if options.bfloat16:
        calls[_BFLOAT16] = codes(generation_of(options, config, with_precision(network, "bfloat16")))
    return calls


def torch_dvae(config: XTTSConfig) -> Any:
    """The DVAE of torch, with the same weights in every call."""
    import torch

    from experiments.benchmarks.torch_xtts import DVAE

    torch.manual_seed(0)
    return DVAE(config.dvae.codes).eval().requires_grad_(False)


def dvae_calls(options: Options, config: XTTSConfig, *, encode: bool) -> tuple[dict[str, Callable[[], Any]], float]:
    """The work of the DVAE in both engines, and its operations in units of 10^9."""
    import equinox as eqx
    import jax
    import torch

    from experiments.benchmarks.torch_hifigan import arrays_of
    from jaxvoice import nn
    from jaxvoice.models.xtts_dvae import DVAE
    from jaxvoice.weights import load_state

    theirs = torch_dvae(config)
    skeleton = eqx.filter_eval_shape(DVAE, config.dvae, key=jax.random.key(0))
    network = load_state(skeleton, arrays_of(theirs))
    ours = nn.freeze(network)
    random = np.random.default_rng(1)
    frames = round(options.seconds * config.input_rate / config.dvae.mel.hop_length)
    if encode:
        mel = random.normal(0, 1, (1, frames, config.dvae.mel.num_mels)).astype(np.float32)
        function = eqx.filter_jit(lambda network, mel: network.encode(mel))
        gflop = flops.traced_gflop(lambda network: network.encode(mel), network)
        torch_mel = torch.from_numpy(mel).mT.contiguous()
        calls: dict[str, Callable[[], Any]] = {
            "jaxvoice": lambda: np.asarray(function(ours, mel)),
            "torch": lambda: theirs.encode(torch_mel).numpy(),
        }
        return calls, gflop
    codes = random.integers(0, config.dvae.codes, (1, frames // config.dvae.stride)).astype(np.int32)
    function = eqx.filter_jit(lambda network, codes: network.decode(codes))
    gflop = flops.traced_gflop(lambda network: network.decode(codes), network)
    torch_codes = torch.from_numpy(codes).long()
    calls = {
        "jaxvoice": lambda: np.asarray(function(ours, codes)).swapaxes(1, 2),
        "torch": lambda: theirs.decode(torch_codes).numpy(),
    }
    return calls, gflop


def decoders(config: XTTSConfig) -> tuple[Any, Any]:
    """The decoders of jaxvoice and of torch with equal weights, whose weight norm is folded.

    The decoder of jaxvoice is frozen without the algorithm of Winograd, as in the pipeline.
    """
    import equinox as eqx
    import jax
    import torch

    from experiments.benchmarks.torch_hifigan import arrays_of, fold_weight_norm
    from experiments.benchmarks.torch_xtts import Decoder
    from jaxvoice import nn
    from jaxvoice.models.xtts.decoder import HiFiDecoder
    from jaxvoice.weights import load_state, named_arrays

    torch.manual_seed(0)
    settings = to_dict(config.decoder)
    names = ("in_channels", "cond_channels", "resblock", "upsample_rates", "upsample_kernel_sizes")
    names += ("upsample_initial_channel", "resblock_kernel_sizes", "resblock_dilation_sizes")
    names += ("conv_pre_weight_norm", "conv_post_weight_norm", "conv_post_bias")
    arguments = {name: settings[name] for name in names} | {"cond_in_each_up_layer": config.decoder.cond_in_each_stage}
    theirs = Decoder(arguments, config.output_rate / config.input_rate).eval().requires_grad_(False)
    skeleton = eqx.filter_eval_shape(HiFiDecoder, config, key=jax.random.key(0))
    zeros = {name: np.zeros(array.shape, array.dtype) for name, array in named_arrays(skeleton).items()}
    ours = load_state(skeleton, zeros | arrays_of(theirs))
    ours = eqx.tree_at(
        lambda decoder: decoder.waveform_decoder, ours, replace_fn=lambda one: nn.freeze(one, winograd=False)
    )
    return ours, fold_weight_norm(theirs).eval()


def latents_of(config: XTTSConfig, seconds: float) -> tuple[Array, Array]:
    """Random latents for `seconds` of audio `(codes, channels)`, and the vector of a speaker."""
    random = np.random.default_rng(2)
    codes = round(seconds * config.input_rate / config.dvae.samples_per_code)
    speaker = random.normal(0, 1, config.decoder.cond_channels)
    latents = random.normal(0, 1, (codes, config.gpt.channels)).astype(np.float32)
    return latents, (speaker / np.linalg.norm(speaker)).astype(np.float32)


def decoder_calls(options: Options, config: XTTSConfig) -> tuple[dict[str, Callable[[], Any]], float]:
    """The work `decoder` in both engines, and its operations in units of 10^9."""
    import equinox as eqx
    import torch

    ours, theirs = decoders(config)
    latents, speaker = latents_of(config, options.seconds)
    function = eqx.filter_jit(lambda decoder, latents, speaker: decoder(latents, speaker))
    gflop = flops.traced_gflop(lambda decoder: decoder(latents, speaker), ours)
    torch_latents, torch_speaker = torch.from_numpy(latents)[None], torch.from_numpy(speaker)[None, :, None]
    calls: dict[str, Callable[[], Any]] = {
        "jaxvoice": lambda: np.asarray(function(ours, latents, speaker))[:, 0],
        "torch": lambda: theirs(torch_latents, torch_speaker)[0, 0].numpy(),
    }
    return calls, gflop


def stream_calls(options: Options, config: XTTSConfig, seconds: float) -> dict[str, Callable[[], Any]]:
    """The decoding of a stream of `seconds`: jaxvoice, and torch in the way of the original."""
    import torch

    from jaxvoice.models.xtts.streaming import DecoderStream

    ours, theirs = decoders(config)
    latents, speaker = latents_of(config, seconds)
    torch_latents, torch_speaker = torch.from_numpy(latents)[None], torch.from_numpy(speaker)[None, :, None]
    edges = [0, *range(FIRST_CODES, len(latents), CODES_PER_CALL), len(latents)]

    def stream() -> Array:
        session = DecoderStream(ours, speaker)
        parts = [session.push(latents[start:stop]) for start, stop in itertools.pairwise(edges)]
        return np.concatenate([*parts, session.finish()])

    def original() -> Array:
        audio = None
        for stop in [*range(ORIGINAL_CHUNK, len(latents), ORIGINAL_CHUNK), len(latents)]:
            audio = theirs(torch_latents[:, :stop], torch_speaker)
        assert audio is not None
        return audio[0, 0].numpy()

    return {"jaxvoice": stream, "torch, decoding all again": original}


def first_audio_calls(options: Options, config: XTTSConfig) -> dict[str, Callable[[], Any]]:
    """From a text to the first audio: jaxvoice, and torch after the first 20 codes and after all codes."""
    import torch

    from jaxvoice.models.xtts.streaming import DecoderStream

    generate = generation_of(options, config, jaxvoice_language_model(config))
    model, (ours, theirs) = torch_language_model(config), decoders(config)
    latents, speaker = latents_of(config, options.seconds)
    conditioning, text = (torch.from_numpy(array) for array in prompt_of(options, config))
    torch_speaker = torch.from_numpy(speaker)[None, :, None]

    def first() -> Array:
        session = DecoderStream(ours, speaker)
        for (part,) in generate(config.gpt.max_new_codes, first=FIRST_CODES):
            audio = session.push(part.latents)
            if len(audio):
                return audio
        raise SystemExit("The stream returned no audio.")

    def original(count: int, *, again: bool) -> Array:
        codes, vectors = model.generate(conditioning, text.long(), count)
        if again:
            vectors = model.second_pass(conditioning, text.long(), codes)
        return theirs(vectors, torch_speaker)[0, 0].numpy()

    return {
        "jaxvoice": first,
        "torch, first 20 codes": lambda: original(ORIGINAL_CHUNK, again=False),
        "torch, all codes": lambda: original(len(latents), again=True),
    }


def bandwidth() -> float:
    """GB/s of the fastest of some sums over an array of 1 GiB, by all threads of XLA."""
    import jax
    from jax import numpy as jnp

    from experiments.benchmarks.timing import timed

    array = jnp.ones((2**14, 2**14), jnp.float32)
    total = jax.jit(lambda array: jnp.sum(array, axis=1))
    call = lambda: jax.block_until_ready(total(array))  # noqa: E731
    call()
    return array.nbytes / 1e9 / min(timed(call) for _ in range(5))


def weights_per_code(config: XTTSConfig) -> int:
    """Bytes of the weights that a code needs: the transformer, the last norm and the head, in float32."""
    import equinox as eqx
    import jax

    from jaxvoice.models.xtts.gpt import GPT
    from jaxvoice.models.xtts.precision import bytes_per_code

    return bytes_per_code(eqx.filter_eval_shape(GPT, config.gpt, key=jax.random.key(0)), 0).weights


def calls_of(
    options: Options, config: XTTSConfig, work: Work, seconds: float
) -> tuple[dict[str, Callable[[], Any]], float | None]:
    """The work in each engine, and its operations in units of 10^9 if they are known."""
    if work == "codes":
        return codes_calls(options, config), None
    if work == "first audio":
        return first_audio_calls(options, config), None
    if work == "stream":
        return stream_calls(options, config, seconds), None
    if work == "decoder":
        return decoder_calls(options, config)
    return dvae_calls(options, config, encode=work == "dvae encode")


def measure(harness: Harness, options: Options, work: Work) -> list[dict[str, Any]]:
    """Rows of the comparisons, one for each engine and length; results of equal work must agree."""
    config, rows = config_of(options), []
    for seconds in options.lengths if work == "stream" else (options.seconds,):
        calls, gflop = calls_of(options, config, work, seconds)
        difference = None
        if work != "first audio":
            ours, theirs = (call() for name, call in calls.items() if name != _BFLOAT16)
            tolerance = 0.0 if work in ("codes", "dvae encode") else TOLERANCE
            difference = common.check_agreement(work, ours, theirs, tolerance)
        comparison = harness.compare(work, calls)
        for engine in calls:
            row = {"work": work, "engine": engine, "audio s": None if work == "codes" else seconds}
            row |= comparison.row(engine, gflop=gflop) | {"difference": difference}
            if work == "codes":
                each = comparison.timings[engine].minimum / options.codes
                size = weights_per_code(config) / (2 if engine == _BFLOAT16 else 1)
                row |= {"ms per code": 1000 * each, "GB/s of weights": size / 1e9 / each}
            rows.append(row)
    return rows


def main(options: Options) -> None:
    """Run the benchmark."""
    import torch

    keep_freed_memory()
    harness = Harness(options)
    torch.set_num_threads(harness.threads)
    rates = [bandwidth()]
    rows = [row for work in options.works for row in measure(harness, options, work)]
    rates.append(bandwidth())
    table = [{"memory GB/s": max(rates), "bytes per code": weights_per_code(config_of(options))}]
    common.report("XTTS v2, float32, random weights", options, rows, table, harness=harness)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
