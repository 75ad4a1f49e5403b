"""Files in the layout of NeMo: `.nemo` archives with a configuration and a state dict."""

import io
import tarfile
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.models.conformer.small import SMALL

VOCABULARY = list(SMALL.symbols)


def settings(**encoder: Any) -> dict[str, Any]:
    """A `model_config.yaml` for `SMALL`, with options of the encoder replaced."""
    return {
        "target": "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE",
        "nemo_version": "1.8.1",
        "sample_rate": 16000,
        "tokenizer": {"dir": "???", "type": "bpe"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": SMALL.mel.num_mels,
            "n_fft": 512,
            "log": True,
            "frame_splicing": 1,
            "dither": 1e-05,
            "pad_to": 0,
            "pad_value": 0.0,
        },
        "spec_augment": {"freq_masks": 2, "time_masks": 5},
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": SMALL.mel.num_mels,
            "feat_out": -1,
            "n_layers": SMALL.layers,
            "d_model": SMALL.dim,
            "subsampling": "striding",
            "subsampling_factor": 4,
            "subsampling_conv_channels": SMALL.subsampling_channels,
            "ff_expansion_factor": 2,
            "self_attention_model": "rel_pos",
            "n_heads": SMALL.heads,
            "att_context_size": [-1, -1],
            "xscaling": True,
            "untie_biases": True,
            "pos_emb_max_len": 5000,
            "conv_kernel_size": SMALL.kernel_size,
            "conv_norm_type": "batch_norm",
            "dropout": 0.1,
            "dropout_emb": 0.0,
            "dropout_att": 0.1,
            **encoder,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "num_classes": len(VOCABULARY),
            "vocabulary": VOCABULARY,
        },
    }


FRONT_END = {
    "preprocessor.featurizer.window": torch.hann_window(400, periodic=False),
    "preprocessor.featurizer.fb": torch.rand(1, 20, 257),
}


def write_nemo(path: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], mode: str = "w") -> Path:
    """Write a `.nemo` file; the mode `w:gz` compresses it."""
    weights = io.BytesIO()
    torch.save(tensors, weights)
    text = yaml.safe_dump(config, sort_keys=False)
    with tarfile.open(path, mode) as archive:
        for name, raw in (("./model_config.yaml", text.encode()), ("./model_weights.ckpt", weights.getvalue())):
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path
