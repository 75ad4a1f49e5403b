"""Names of weights, and errors for weights that do not match."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from jax import numpy as jnp

from jaxvoice import open_archive
from jaxvoice.errors import CheckpointError
from jaxvoice.nn import Conv1d
from jaxvoice.weights import count_parameters, load_state, named_arrays


class Net(eqx.Module):
    convs: list[Conv1d]
    head: Conv1d

    def __init__(self, *, key):
        first, second, third = jax.random.split(key, 3)
        self.convs = [Conv1d(3, 5, 7, weight_norm=True, key=first), Conv1d(5, 5, 1, key=second)]
        self.head = Conv1d(5, 1, 3, use_bias=False, key=third)


def torch_net():
    norm = torch.nn.utils.parametrizations.weight_norm
    convs = torch.nn.ModuleList([norm(torch.nn.Conv1d(3, 5, 7)), torch.nn.Conv1d(5, 5, 1)])
    return torch.nn.ModuleDict({"convs": convs, "head": torch.nn.Conv1d(5, 1, 3, bias=False)})


def test_names_and_sizes_equal_torch(key):
    theirs = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tuple(tensor.shape)
        for name, tensor in torch_net().state_dict().items()
    }
    ours = named_arrays(Net(key=key))
    assert {name: array.shape for name, array in ours.items()} == theirs
    assert count_parameters(Net(key=key)) == sum(parameter.numel() for parameter in torch_net().parameters())
    shapes = eqx.filter_eval_shape(Net, key=key)
    assert named_arrays(shapes).keys() == ours.keys(), "a model without numbers has the same names"


def test_load_state_casts_to_the_dtypes_of_the_model(key):
    arrays = {name: np.full(array.shape, 1.5) for name, array in named_arrays(Net(key=key)).items()}
    loaded = load_state(eqx.filter_eval_shape(Net, key=key), arrays)
    for array in named_arrays(loaded).values():
        assert array.dtype == jnp.float32
        np.testing.assert_array_equal(array, 1.5)


def test_load_state_lists_all_mismatches(key):
    arrays = dict(named_arrays(Net(key=key)))
    arrays["convs.0.weight_q"] = arrays.pop("convs.0.weight_g")
    arrays["stranger"] = np.zeros(2)
    arrays["head.weight"] = arrays["head.weight"].T
    with pytest.raises(CheckpointError) as caught:
        load_state(Net(key=key), arrays, "the weights of x")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the weights of x do not match")
    assert sorted(line.strip() for line in lines[1:]) == [
        "! head.weight has shape (3, 5, 1), head.weight needs (1, 5, 3) (transposed?)",
        "+ convs.0.weight_q (5, 1, 1) (did you mean convs.0.weight_g?)",
        "+ stranger (2,)",
        "- convs.0.weight_g (5, 1, 1) (the file has convs.0.weight_q?)",
    ]


class Third(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.linear(x) / 3


class Linear(eqx.Module):
    linear: eqx.nn.Linear


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_load_state_skips_constants_of_traced_code(tmp_path):
    net = Third()
    torch.jit.trace(net, torch.ones(3)).save(tmp_path / "model.pt")
    model = Linear(eqx.nn.Linear(3, 3, key=jax.random.key(0)))
    with open_archive(tmp_path / "model.pt") as archive:
        assert archive.tensors["CONSTANTS.c0"] == 3
        loaded = load_state(model, archive.tensors)
        with pytest.raises(CheckpointError, match="CONSTANTS"):
            load_state(model, dict(archive.tensors))
    np.testing.assert_array_equal(loaded.linear.weight, net.linear.weight.detach().numpy())
