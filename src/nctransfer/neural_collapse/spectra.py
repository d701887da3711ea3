"""The eigenvalues of a covariance about the mean and about zero, for the price of one decomposition.

The two matrices are ``S`` and ``S + m mᵀ``. A reflection turns the mean m onto the first axis. Bringing S to
tridiagonal form, which is nearly all of the work, leaves that axis alone. So the tridiagonal forms of both matrices
differ in the first entry only, by ``‖m‖²``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["spectra"]


def spectra(covariance: torch.Tensor, mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The eigenvalues of ``covariance`` and of ``covariance + mean meanᵀ``, both ascending, ``(d,)`` float64.

    Args:
        covariance: ``(d, d)`` float64, symmetric, on the CPU.
        mean: ``(d,)`` float64, on the CPU.

    >>> import torch
    >>> spectra(torch.diag(torch.tensor([1.0, 3.0]).double()), torch.tensor([2.0, 0.0]).double())
    (tensor([1., 3.], dtype=torch.float64), tensor([3., 5.], dtype=torch.float64))
    """
    import torch
    from scipy.linalg import eigvalsh_tridiagonal, lapack

    length = mean.norm()
    turned = covariance
    if float(length) > 0:
        axis = mean / length
        axis = axis + torch.eye(len(mean), dtype=mean.dtype)[0] * (1.0 if axis[0] >= 0 else -1.0)
        axis = axis / axis.norm()  # I − 2 axis axisᵀ turns the mean onto the first axis, up to its sign
        along = covariance @ axis
        along = along - (axis @ along) * axis
        turned = covariance - 2 * (torch.outer(axis, along) + torch.outer(along, axis))
    work = int(lapack.dsytrd_lwork(len(mean))[0])
    _, diagonal, beside, _, failed = lapack.dsytrd(turned.numpy(), lower=1, lwork=work)
    assert not failed, f"dsytrd returned {failed}"
    about_mean = eigvalsh_tridiagonal(diagonal, beside)
    diagonal[0] += float(length) ** 2
    return torch.from_numpy(about_mean), torch.from_numpy(eigvalsh_tridiagonal(diagonal, beside))
