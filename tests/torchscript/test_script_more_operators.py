"""Operators that speech models use now and then, beside torch: many expressions in one program, so that they are cheap.

Every program is scripted, and run as it is, and traced, and run under `jax.jit`.
"""

import jax
import pytest
import torch

from tests.torchscript.script_agreement import both, inputs_of, same, values

NOISE, SQUARE, PICTURE = (3, 4), (2, 3, 3), (2, 4, 6, 8)
PLACES, CLASSES = torch.tensor([[0, 2, 1, 2], [1, 1, 0, 3], [2, 0, 0, 1]]), torch.tensor([1, 0, -100])
HOLES = torch.tensor([[1.0, float("nan"), 2.0, 3.0], [4.0, -1.0, 0.0, 7.0], [float("nan")] * 4])
UNIT = torch.tensor([0.1, 0.4, 0.8, 0.999])
GRID = torch.tensor([-1.0, 0.0, 0.5, 2.0])

GROUPS: dict[str, tuple[list[object], list[str]]] = {
    "algebra": (
        [SQUARE, (2, 3, 2), (2, 3)],
        [
            "x.inverse()",
            "torch.linalg.inv(x)",
            "torch.linalg.det(x)",
            "torch.logdet(x @ x.transpose(1, 2))",
            "torch.slogdet(x)",
            "torch.linalg.slogdet(x)",
            "torch.linalg.solve(x, y)",
            "torch.linalg.solve(x, z)",
            "torch.linalg.solve(x, y.transpose(1, 2), left=False)",
            "torch.logdet(x)",
            "torch.linalg.cholesky(x @ x.transpose(1, 2) + 3.0 * torch.eye(3))",
            "torch.trace(x[0])",
            "torch.linalg.pinv(y)",
            "torch.linalg.matrix_power(x, 3)",
            "torch.inner(z, x)",
            "torch.cdist(y, x[:, :, :2], 1.0)",
            "torch.cdist(y, y + 1.0, 3.0)",
        ],
    ),
    "searching": (
        [NOISE, GRID, PLACES, HOLES],
        [
            "torch.searchsorted(y, x)",
            "torch.searchsorted(y, x, right=True)",
            "torch.searchsorted(y, 0.5, side='right')",
            "torch.searchsorted(y.expand(3, 4).contiguous(), x, out_int32=True)",
            "torch.bucketize(x, y)",
            "torch.bucketize(x, y, right=True)",
            "torch.isin(z, torch.tensor([0, 3]))",
            "torch.histc(x, 5)",
            "torch.histc(x, 4, -1.0, 1.0)",
            "torch.quantile(x, 0.3)",
            "torch.quantile(x, 0.3, 1)",
            "torch.quantile(x, torch.tensor([0.1, 0.75]), dim=0, keepdim=True)",
            "torch.nanquantile(w, 0.5, dim=1)",
            "torch.quantile(x, 0.3, dim=1, interpolation='nearest')",
            "torch.quantile(w, 0.5, dim=1)",
            "torch.kthvalue(x, 2)",
            "torch.kthvalue(x, 1, 0, True)",
            "torch.cummax(z, 1)",
            "torch.cummin(x, 0)",
            "torch.cummax(w, 1)",
            "torch.logcumsumexp(x, 1)",
            "torch.median(w)",
            "torch.median(w, 1)",
            "torch.median(x, 0, True)",
            "torch.nanmedian(w)",
            "torch.nanmedian(w[:2], 1)",
            "torch.nansum(w, 1)",
            "torch.nanmean(w, 0)",
            "torch.isclose(x, x + 1e-7)",
            "torch.isclose(w, w, equal_nan=True)",
            "torch.take(x, z)",
            "x.masked_scatter(z > 1, w)",
            "x.masked_scatter(z > 1, y.expand(3, 4))",
            *(
                f"x.scatter_reduce({dim}, z[:, :3].clamp(max=2), w.nan_to_num()[:, :3], '{how}'{more})"
                for dim, how, more in [
                    (1, "sum", ""),
                    (1, "mean", ", include_self=False"),
                    (0, "amax", ""),
                    (1, "amin", ", include_self=False"),
                    (1, "prod", ""),
                    (1, "mean", ""),
                ]
            ),
            "x.scatter_reduce(1, z, x, 'prod', include_self=False)",
            "torch.nonzero(torch.tensor([0, 3, 0, 1]))",
            "torch.bincount(torch.tensor([1, 4, 1]))",
            "torch.where(torch.tensor([True, False, True]))[0]",
        ],
    ),
    "functions": (
        [NOISE, UNIT, PLACES],
        [
            "torch.logit(y)",
            "torch.logit(y, 0.05)",
            "torch.erfinv(y)",
            "torch.xlogy(z, y)",
            "torch.xlogy(y, 2.0)",
            "torch.copysign(y, x)",
            "torch.copysign(x, -1.0)",
            "torch.heaviside(x.round(), y)",
            "torch.logaddexp(x, y)",
            "torch.logaddexp2(x, y)",
            "torch.i0(x)",
            "torch.special.i0e(x)",
            "torch.special.expit(x)",
            "z << 2",
            "z >> 1",
            "torch.bitwise_left_shift(z, z)",
            "x.cpu()",
            "torch.diag(y)",
            "torch.diag(x, 1)",
            "torch.rot90(x)",
            "torch.rot90(x, 3, [1, 0])",
            "torch.fliplr(x)",
            "torch.flipud(x)",
            "x.ravel()",
            "torch.atleast_1d(y.sum())",
            "torch.atleast_2d(y)",
            "torch.atleast_3d(y)",
            "torch.atleast_3d(x)",
            "torch.atleast_3d(y.sum())",
            "torch.column_stack([y, y])",
            "torch.column_stack([x.t(), y])",
            "torch.dstack([x, x])",
            "torch.dstack([y, y])",
            "torch.kaiser_window(9)",
            "torch.kaiser_window(8, False)",
            "torch.kaiser_window(8, True, 6.0)",
            "torch.bartlett_window(8)",
            "torch.bartlett_window(7, False)",
            "torch.kaiser_window(1)",
        ],
    ),
    "pictures": (
        [PICTURE, (2, 12, 5)],
        [
            "F.unfold(x, 3)",
            "F.unfold(x, [2, 3], 2, 1, [2, 1])",
            "F.unfold(x[0], 2)",
            "F.fold(F.unfold(x, 3, padding=1, stride=2), [6, 8], 3, padding=1, stride=2)",
            "F.pixel_unshuffle(x, 2)",
            "F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2)",
            "F.channel_shuffle(x, 2)",
            *(f"torch.fft.{name}(x)" for name in ("fft2", "fftn", "rfft2", "rfftn", "ifft2", "fftshift", "ifftshift")),
            "torch.fft.fftn(x, dim=[1, 3])",
            "torch.fft.irfft2(torch.fft.rfft2(x))",
            "torch.fft.fft2(x, [4, 9])",
            "torch.fft.rfft2(x, norm='ortho')",
            "torch.fft.fftshift(x, dim=[2])",
            "torch.fft.irfftn(torch.fft.rfftn(x))",
            "torch.fft.fftfreq(7)",
            "torch.fft.rfftfreq(8, 0.5)",
            "torch.fft.fftn(x, [3, 4])",
            "F.pad(x[0], [-2, 3], mode='circular')",
            "F.pad(x, [3, -2, -1, 2], mode='circular')",
            "F.pad(x[0], [2, 8], mode='circular')",
            "F.pad(x[0], [5, -1], mode='circular')",
        ],
    ),
    "losses": (
        [NOISE, CLASSES, (4,), (3, 4)],
        [
            "F.cross_entropy(x, y)",
            "F.cross_entropy(x, y, z.abs())",
            "F.cross_entropy(x, y, reduction='none')",
            "F.cross_entropy(x, y, reduction='sum')",
            "F.cross_entropy(x, y, label_smoothing=0.1)",
            "F.cross_entropy(x, y, z.abs(), label_smoothing=0.2)",
            "F.cross_entropy(x, w.softmax(1))",
            "F.cross_entropy(x, w.softmax(1), z.abs(), label_smoothing=0.2)",
            "F.cross_entropy(x[0], y[0])",
            "F.cross_entropy(x.t()[None], y[None].expand(1, 3).clamp(min=0))",
            "F.nll_loss(F.log_softmax(x, 1), y)",
            "F.cross_entropy(x, y.clamp(min=0), ignore_index=1)",
            "F.nll_loss(x, y, z.abs())",
            "F.kl_div(x, w.softmax(1), reduction='none')",
            "F.kl_div(x, w, log_target=True, reduction='sum')",
            "F.kl_div(x, w.softmax(1), reduction='batchmean')",
            "F.binary_cross_entropy(x.sigmoid(), w.sigmoid())",
            "F.binary_cross_entropy_with_logits(x, w.sigmoid())",
            "F.binary_cross_entropy_with_logits(x, w.sigmoid(), z.abs(), pos_weight=z.abs() + 1.0)",
            "F.smooth_l1_loss(x, w)",
            "F.smooth_l1_loss(x, w, beta=0.3, reduction='none')",
            "F.huber_loss(x, w, delta=0.4)",
            "F.l1_loss(x, w)",
            "F.mse_loss(x, w, reduction='none')",
        ],
    ),
    "bags": (
        [(6, 3), torch.tensor([1, 5, 0, 2, 2]), torch.tensor([0, 2, 2])],
        [
            "F.embedding_bag(y, x, z)",
            "F.embedding_bag(y, x, z, mode='sum')",
            "F.embedding_bag(y, x, z, mode='max')",
            "F.embedding_bag(y.view(1, 5), x)",
            "F.embedding_bag(y, x, z, padding_idx=2)",
            "F.embedding_bag(y, x, z, mode='sum', per_sample_weights=y.to(x.dtype))",
        ],
    ),
}


# Compiling sorts and pictures takes most of a minute on a busy machine.
SLOW = ("searching", "pictures")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in GROUPS]
)
def test_equals_torch(load, name):
    shapes, sources = GROUPS[name]
    inputs = values(0, *shapes)
    scripted_, traced = both(f"({', '.join(f'({source},)' for source in sources)})", inputs)
    for module, compiled in ((scripted_, lambda run: run), (traced, jax.jit)):
        theirs, run = module(*inputs), load(module)
        for source, one, other in zip(sources, theirs, compiled(run)(run.weights, *inputs_of(inputs)), strict=True):
            try:
                same(one, other, 1e-4)
            except AssertionError as failure:
                raise AssertionError(f"{source}: {failure}") from failure
