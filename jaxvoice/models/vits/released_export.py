"""The configurations of coqui and of the original for exported models, and coqui's files of languages and speakers.

Does not import jax.
"""

import json
from pathlib import Path
from typing import Any

from jaxvoice.config import parse_json, read_text
from jaxvoice.dsp.mel_config import MelConfig
from jaxvoice.errors import CheckpointError, JaxvoiceError
from jaxvoice.models.vits.config import MEL, VITSConfig, WaveNetConfig
from jaxvoice.models.vits.released_config import LANGUAGES_FILE, MOST_BYTES
from jaxvoice.models.vits.released_settings import read_coqui, read_original
from jaxvoice.models.vits.speakers import IDS_FILE, SPEAKERS_FILE, speakers_beside
from jaxvoice.text.symbol_table import VITS_SYMBOLS

_CLEANERS = {"multilingual": "multilingual_cleaners", "lowercase": "basic_cleaners", "spaces": None}


def _has_constants(config: VITSConfig, *, norm_eps: float) -> bool:
    """Whether the sizes that both implementations fix in their code are those of `config`.

    **Arguments:** `norm_eps`, the constant in the norms of the deterministic duration predictor.
    """
    durations = config.durations
    sizes = (durations.channels, durations.kernel_size)
    if durations.kind == "stochastic":
        same = sizes == (192, 3) and (durations.flows, durations.bins) == (4, 10)
    else:
        same = sizes == (256, 3) and durations.norm_eps == norm_eps
    return same and config.flows == 4 and config.text.window == 4


def coqui_config(config: VITSConfig) -> dict[str, Any]:
    """The `config.json` of coqui for `config`; empty if it cannot express the symbols, the mel or the sizes."""
    symbols, decoder = config.symbols, config.decoder
    if symbols.blank == "first" or not _has_constants(config, norm_eps=1e-4):
        return {}
    characters = symbols.characters if symbols.blank == "last" else symbols.characters[:-1]
    dilations = [list(row) for row in decoder.resblock_dilation_sizes]
    table = {
        "model": "vits",
        "model_args": {
            "num_chars": symbols.size,
            "out_channels": config.spectrogram_bins,
            "spec_segment_size": config.segment_frames,
            "hidden_channels": config.channels,
            "hidden_channels_ffn_text_encoder": config.text.feed_forward,
            "num_heads_text_encoder": config.text.heads,
            "num_layers_text_encoder": config.text.layers,
            "kernel_size_text_encoder": config.text.kernel_size,
            "dropout_p_text_encoder": config.text.dropout,
            "dropout_p_duration_predictor": config.durations.dropout,
            "kernel_size_posterior_encoder": config.posterior.kernel_size,
            "dilation_rate_posterior_encoder": config.posterior.dilation_rate,
            "num_layers_posterior_encoder": config.posterior.layers,
            "kernel_size_flow": config.flow.kernel_size,
            "dilation_rate_flow": config.flow.dilation_rate,
            "num_layers_flow": config.flow.layers,
            "resblock_type_decoder": decoder.resblock,
            "resblock_kernel_sizes_decoder": list(decoder.resblock_kernel_sizes),
            "resblock_dilation_sizes_decoder": dilations,
            "upsample_rates_decoder": list(decoder.upsample_rates),
            "upsample_initial_channel_decoder": decoder.upsample_initial_channel,
            "upsample_kernel_sizes_decoder": list(decoder.upsample_kernel_sizes),
            "periods_multi_period_discriminator": list(config.discriminators.periods),
            "use_sdp": config.durations.kind == "stochastic",
            "inference_noise_scale": config.sampling.noise_scale,
            "inference_noise_scale_dp": config.sampling.duration_noise_scale,
            "length_scale": config.sampling.length_scale,
            "use_speaker_embedding": config.num_speakers > 0,
            "num_speakers": config.num_speakers,
            "speaker_embedding_channels": config.speaker_channels if config.num_speakers else 256,
            "use_d_vector_file": config.reads_vectors,
            "d_vector_dim": 0 if config.num_speakers else config.speaker_channels,
            "use_language_embedding": bool(config.languages),
            "embedded_language_dim": config.language_channels,
            "num_languages": len(config.languages),
        },
        "audio": {
            "sample_rate": config.mel.sample_rate,
            "fft_size": config.mel.n_fft,
            "hop_length": config.mel.hop_length,
            "win_length": config.mel.win_length,
            "num_mels": config.mel.num_mels,
            "mel_fmin": config.mel.fmin,
            "mel_fmax": config.mel.fmax,
        },
        "characters": {
            "characters_class": "TTS.tts.models.vits.VitsCharacters",
            "pad": characters[0],
            "punctuations": "",
            "characters": characters[1:],
            "phonemes": "",
        },
        "add_blank": symbols.blank == "last",
        "use_phonemes": symbols.alphabet == "ipa",
        "text_cleaner": _CLEANERS[symbols.cleaner],
    }
    found = read_coqui(table)
    return table if found.mel == config.mel and found.symbols == symbols else {}


def original_config(config: VITSConfig) -> dict[str, Any]:
    """The `config.json` of jaywalnut310/vits for `config`; empty if it cannot express the symbols, the mel or the
    sizes."""
    mel, decoder = config.mel, config.decoder
    networks = config.posterior == WaveNetConfig(layers=16) and config.flow == WaveNetConfig(layers=4)
    if not networks or not _has_constants(config, norm_eps=1e-5):
        return {}
    if config.languages or config.symbols.characters != VITS_SYMBOLS.characters:
        return {}
    table = {
        "train": {"segment_size": config.segment_samples},
        "data": {
            "sampling_rate": mel.sample_rate,
            "filter_length": mel.n_fft,
            "hop_length": mel.hop_length,
            "win_length": mel.win_length,
            "n_mel_channels": mel.num_mels,
            "mel_fmin": mel.fmin,
            "mel_fmax": mel.fmax,
            "add_blank": config.symbols.blank == "first",
            "n_speakers": config.num_speakers,
            "cleaned_text": True,
            "text_cleaners": ["english_cleaners2"],
        },
        "model": {
            "inter_channels": config.channels,
            "hidden_channels": config.channels,
            "filter_channels": config.text.feed_forward,
            "n_heads": config.text.heads,
            "n_layers": config.text.layers,
            "kernel_size": config.text.kernel_size,
            "p_dropout": config.text.dropout,
            "use_sdp": config.durations.kind == "stochastic",
            "resblock": decoder.resblock,
            "resblock_kernel_sizes": list(decoder.resblock_kernel_sizes),
            "resblock_dilation_sizes": [list(row) for row in decoder.resblock_dilation_sizes],
            "upsample_rates": list(decoder.upsample_rates),
            "upsample_initial_channel": decoder.upsample_initial_channel,
            "upsample_kernel_sizes": list(decoder.upsample_kernel_sizes),
            "gin_channels": config.speaker_channels,
        },
    }
    expected: MelConfig = read_original(table).mel
    return table if expected == mel and mel.magnitude_floor == MEL.magnitude_floor else {}


def side_files(config: VITSConfig, folder: Path, beside: Path) -> dict[str, bytes]:
    """The files of a bundle of coqui beside an export: `language_ids.json`, and `speaker_ids.json` with the ids of a
    table of speakers or `speakers.json` with vectors, if the model folder `folder` has names.

    Files with the same content in `beside`, the folder of the export, are left out.

    **Raises:** `CheckpointError` for files in `beside` with another content, or in another form of coqui's.
    """
    files = {}
    if config.languages:
        ids = {name: number for number, name in enumerate(config.languages)}
        path = beside / LANGUAGES_FILE
        if not path.exists():
            files[LANGUAGES_FILE] = (json.dumps(ids, ensure_ascii=False) + "\n").encode()
        elif parse_json(path, read_text(path, MOST_BYTES)) != ids:
            raise _of_another_model(path)
    speakers = speakers_beside(folder, config).get(SPEAKERS_FILE)
    if speakers is None:
        return files
    path = beside / (IDS_FILE if config.num_speakers else SPEAKERS_FILE)
    try:
        found = speakers_beside(beside, config).get(SPEAKERS_FILE)
    except JaxvoiceError as failure:
        raise _of_another_model(path) from failure
    if found is None:
        files[path.name] = speakers
    elif found != speakers:
        raise _of_another_model(path)
    return files


def _of_another_model(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path.parent} contains languages or speakers of another model, in {path.name} or a file in its place. Export "
        "to another folder, or remove the file."
    )
