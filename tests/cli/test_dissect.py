"""`jaxvoice dissect` on model folders, TorchScript archives and weight files."""

import csv

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from jaxvoice.cli import main
from jaxvoice.models.hifigan import FAMILY
from jaxvoice.models.rave import FAMILY as RAVE
from tests.models.hifigan.small import SMALL
from tests.models.rave.small import SMALL as RAVE_SMALL
from tests.torchscript.layer_models import SpeakerEncoder, traced

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("dissect")
    FAMILY.save_network(root / "model", FAMILY.build(SMALL, key=jax.random.key(0)), SMALL)
    RAVE.save_network(root / "rave", RAVE.build(RAVE_SMALL, key=jax.random.key(0)), RAVE_SMALL)
    traced(SpeakerEncoder(), torch.randn(1, 10, 40), path=root / "speaker.pt")
    save_file({"a.weight": np.ones((2, 3), np.float32)}, root / "a.safetensors")
    return root


def printed(capsys, *arguments) -> str:
    assert main(["dissect", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_folders_have_activations_and_weights(files, capsys):
    out = printed(capsys, files / "model")
    assert out.startswith("activations\n") and "\nweights\n" in out
    assert "resblocks.0.convs1.0" in out and "ups.1.weight_v" in out
    out = printed(
        capsys, files / "model", "--table", "graph", "--op", "Conv1d", "ConvTranspose1d", "--match", "conv_p|ups"
    )
    lines = [line.split() for line in out.splitlines()]
    names = [line[0] for line in lines if len(line) > 3][1:]
    assert [name for name in names if "-" not in name] == ["conv_pre", "ups.0", "ups.1", "conv_post"]
    out = printed(capsys, files / "model", "--table", "weights", "--match", "bias", "--search", "--exclude", "res")
    assert "4 rows" in out


def test_names_are_those_of_weight_files(files, capsys):
    out = printed(capsys, files / "rave", "--match", "decoder.net.0|encoder.encoder.net.0")
    names = {line.split()[0] for line in out.splitlines() if line.startswith(("decoder", "encoder"))}
    assert {"decoder.net.0", "encoder.encoder.net.0", "decoder.net.0.weight_v"} <= names


def test_tables_are_written(files, tmp_path, capsys):
    path = tmp_path / "weights.csv"
    assert "wrote" in printed(capsys, files / "model", "--table", "weights", "--output", path)
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert {row["name"]: row["shape"] for row in rows}["ups.0.weight_g"] == "16x1x1"
    assert main(["dissect", str(files / "model"), "--output", str(path)]) == 2
    assert "--output takes one table, and there are 2; choose one with --table" in capsys.readouterr().err


def test_archives_need_the_shapes_of_inputs(files, capsys):
    out = printed(capsys, files / "speaker.pt", "--input", "1x10x40", "--table", "activations")
    assert "pre_conv" in out and "Conv1d" in out
    out = printed(capsys, files / "speaker.pt")
    assert out.startswith("weights\n") and "activations" not in out
    for arguments, message in (
        (["--table", "graph"], "--table graph of a TorchScript archive needs the shapes of its inputs: --input"),
        (["--input", "1,10"], "--input is '1,10'; it should be a shape such as 1x80x130"),
    ):
        assert main(["dissect", str(files / "speaker.pt"), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_other_files_have_weights(files, capsys):
    out = printed(capsys, files / "a.safetensors")
    assert "a.weight" in out and "2x3" in out and "1 row\n" in out
    assert main(["dissect", str(files / "a.safetensors"), "--table", "activations"]) == 2
    assert "is a safetensors file, which has no activations. Import it with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--match", "decodr.net.0"], "--match 'decodr.net.0' matches no name in the tables"),
        (["--match", "decoder", r"decodr\.net\.0$"], "the nearest are decoder.net.0"),
        (["--match", "weight_v", "--table", "weights"], "--search matches anywhere in a name"),
        (["--match", "decoder", "encoder"], "No row passes all filters (--match): all expressions of --match should"),
        (["--match", "decoder", "--exclude", "dec"], "No row passes all filters (--match, --exclude)"),
        (["--op", "Conv1"], "--op 'Conv1' is no class or operation of the model; the nearest are Conv1d"),
        (["--op", "conv_general_dilated"], "--operations lists operations of JAX too"),
    ],
)
def test_filters_that_leave_nothing_are_errors(arguments, message, files, capsys):
    assert main(["dissect", str(files / "rave"), *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_names_of_one_table_are_enough(files, capsys):
    out = printed(capsys, files / "rave", "--match", "decoder.net.0.weight_g")
    assert "0 rows" in out and "1 row\n" in out
    assert main(["dissect", str(files / "a.safetensors"), "--match", "b.weight"]) == 2
    assert "--match 'b.weight' matches no name in the tables; the nearest are a.weight" in capsys.readouterr().err
