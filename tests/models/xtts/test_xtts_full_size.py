"""The import of a bundle of the size of the release: numbers, and memory."""

import gc
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from jaxvoice.models.xtts import preset
from jaxvoice.models.xtts.released_config import coqui_config
from jaxvoice.models.xtts.weights import count_dtypes, xtts_shapes
from jaxvoice.models.xtts_dvae import DVAEConfig
from jaxvoice.models.xtts_dvae.weights import dvae_shapes
from jaxvoice.weights import open_archive
from tests.models.xtts.bundles import encoder_buffers, speakers
from tests.models.xtts.small import vocabulary

PROGRAM = """
import sys
from jaxvoice.cli import main

code = main(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print("peak", int(peak) * 1024, "torch" in sys.modules, "jax" in sys.modules)
raise SystemExit(code)
"""


def random_state(shapes):
    random = np.random.default_rng(0)
    return {name: torch.from_numpy(random.standard_normal(shape, np.float32)) for name, shape in shapes.items()}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
def test_released_bundle_is_imported_within_little_memory(tmp_path):
    config, bundle, to = preset("v2"), tmp_path / "bundle", tmp_path / "model"
    bundle.mkdir()
    shapes = xtts_shapes(config)
    state = random_state(shapes)
    prefix = "hifigan_decoder.speaker_encoder."
    state |= {prefix + k: torch.from_numpy(v) for k, v in encoder_buffers(config.speaker_encoder).items()}
    state |= {name: torch.tensor(7) for name in count_dtypes(shapes)}
    assert sum(tensor.numel() for tensor in state.values()) == 466_900_598
    torch.save({"model": state}, bundle / "model.pth")
    some = {name: state[name].numpy().copy() for name in ("gpt.mel_head.weight", "gpt.gpt.h.29.mlp.c_fc.weight")}
    del state
    gc.collect()
    torch.save(random_state(dvae_shapes(DVAEConfig())), bundle / "dvae.pth")
    torch.save(torch.linspace(2, 4, 80), bundle / "mel_stats.pth")
    torch.save({f"voice {n}": speakers(config)["Zoë"] for n in range(58)}, bundle / "speakers_xtts.pth")
    (bundle / "config.json").write_text(json.dumps(coqui_config(config)), encoding="utf-8")
    text = json.dumps(vocabulary(config.gpt.text_ids, config.gpt.start_text))
    (bundle / "vocab.json").write_text(text, encoding="utf-8")
    size = (bundle / "model.pth").stat().st_size
    assert 1_867_602_540 < size < 1_868_602_540
    command = [sys.executable, "-c", PROGRAM, "import", str(bundle), "--to", str(to)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, peak, *loaded = done.stdout.splitlines()[-1].split()
    assert loaded == ["False", "False"] and int(peak) < 1.2 * size, done.stdout
    assert "xtts v2, 963 tensors, 466900598 parameters" in done.stdout
    assert "58: 'voice 0'" in done.stdout and "Coqui Public Model License 1.0.0" in done.stdout
    with open_archive(to / "model.safetensors") as archive:
        for name, array in some.items():
            np.testing.assert_array_equal(archive.tensors[name], array)
    print(f"peak of the import: {int(peak) / 2**20:.0f} MiB, {int(peak) / size:.2f} of the file")
    for folder in (bundle, to):
        for path in folder.rglob("*"):
            if path.is_file():
                path.unlink()  # pytest keeps the folders of the last runs
