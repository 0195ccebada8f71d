"""The covariance of the columns of x [N, D], and the loss of a pair,

    l = ||C(a) - C(b)||_F^2 / (4 D^2),

as users of NumPy and PyTorch write them.
"""

import os

import numpy as np
import torch

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def features(kind, rows, columns, seed):
    generator = np.random.default_rng(seed)
    return generator.uniform(-1.0, 1.0, (rows, columns)).astype({"f32": "f4", "f64": "f8"}[kind])


def covariance(formulation, kind, rows, columns):
    x = features(kind, rows, columns, 1)
    t = torch.from_numpy(x)

    def centred():
        c = x - x.mean(axis=0)
        return c.T @ c / x.dtype.type(rows - 1)

    # `cov` takes float64 unless told otherwise. A product of an array with its own transpose is
    # one that NumPy hands to ?syrk.
    return {
        "np.cov": lambda: np.cov(x, rowvar=False, dtype=x.dtype),
        "numpy_syrk": centred,
        "torch.cov": lambda: torch.cov(t.T),
        "torch_mm": lambda: torch_covariance(t),
    }[formulation]


def torch_covariance(x):
    c = x - x.mean(0, keepdim=True)
    return c.T @ c / (x.shape[0] - 1)


def eager(a, b):
    return (torch_covariance(a) - torch_covariance(b)).square().sum() / (4 * a.shape[1] ** 2)


class Analytic(torch.autograd.Function):
    """The backward pass by hand: one product a modality, dl/da = (a - mean) (C(a) - C(b)) / (D^2 (N - 1))."""

    @staticmethod
    def forward(ctx, a, b):
        a, b = a - a.mean(0, keepdim=True), b - b.mean(0, keepdim=True)
        difference = torch.mm(b.T, b).mul_(-1 / (b.shape[0] - 1))
        difference.addmm_(a.T, a, alpha=1 / (a.shape[0] - 1))
        ctx.save_for_backward(a, b, difference)
        return difference.square().sum() / (4 * a.shape[1] ** 2)

    @staticmethod
    def backward(ctx, gradient):
        a, b, difference = ctx.saved_tensors
        difference = difference * (gradient / a.shape[1] ** 2)
        da = torch.addmm(a, a, difference, beta=0, alpha=1 / (a.shape[0] - 1))
        db = torch.addmm(b, b, difference, beta=0, alpha=-1 / (b.shape[0] - 1))
        return da, db


class Gram(torch.autograd.Function):
    """Both passes by hand through inner products of rows, for N < D: two products in all."""

    @staticmethod
    def forward(ctx, a, b):
        rows, scale = a.shape[0], (a.shape[0] - 1) ** -0.5
        z = torch.cat((a - a.mean(0, keepdim=True), b - b.mean(0, keepdim=True))).mul_(scale)
        gram = z @ z.T
        signed = gram.clone()
        signed[:rows, rows:].neg_()
        signed[rows:, :rows].neg_()
        ctx.save_for_backward(z, signed)
        return torch.dot(gram.view(-1), signed.view(-1)) / (4 * a.shape[1] ** 2)

    @staticmethod
    def backward(ctx, gradient):
        z, signed = ctx.saved_tensors
        rows = z.shape[0] // 2
        factor = gradient * ((rows - 1) ** -0.5 / z.shape[1] ** 2)
        dz = (signed @ z).mul_(factor)
        return dz[:rows], dz[rows:]


def loss(formulation, kind, rows, columns, backward=False):
    if formulation == "gram" and rows >= columns:
        return None
    function = {
        "eager": eager,
        "compile": eager,
        "analytic": Analytic.apply,
        "gram": Gram.apply,
    }[formulation]
    if formulation == "compile":
        torch._dynamo.reset()
        function = torch.compile(function, dynamic=False)
    a, b = (
        torch.from_numpy(features(kind, rows, columns, seed)).requires_grad_(backward)
        for seed in (1, 2)
    )

    def forward_pass():
        with torch.no_grad():
            return function(a, b)

    def both_passes():
        a.grad = b.grad = None
        function(a, b).backward()

    return both_passes if backward else forward_pass


def loss_gradient(formulation, kind, rows, columns):
    return loss(formulation, kind, rows, columns, backward=True)


OPERATIONS = {"covariance": covariance, "loss": loss, "loss_gradient": loss_gradient}
