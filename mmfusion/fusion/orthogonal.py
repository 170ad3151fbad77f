"""The orthogonalisation cell: latent features without what a structured design explains."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["OrthogonalCell"]


class OrthogonalCell(nn.Module):
    """Takes off latent features U their projection on a design X and a constant.

    ``U - X (X'X)^- X'U``, as the cell of semi-structured distributional regression (Ruegamer, Kolb
    & Klein 2023, section 3): what is linear in the features after it is orthogonal to the design.
    In training X and U are those of the batch, and the gradient passes through both; the
    coefficients ``(X'X)^- X'U`` are averaged over the steps. In evaluation these stand for the
    batch's, and after training `fit` replaces them by those of all training rows: the features of
    a row do not depend on its neighbours. A batch must have more rows than X has columns: otherwise
    its projection is everything.

    Parameters
    ----------
    n_columns : int
        Columns of the design, without the constant.
    width : int
        Width of the features.
    momentum : float, default=0.1
        Share of a batch's coefficients in their running average.

    Examples
    --------
    >>> import torch
    >>> cell = OrthogonalCell(1, 1)
    >>> x = torch.tensor([[-1.0], [0.0], [1.0]])
    >>> cell(2 * x + 5, x).abs().max() < 1e-5
    tensor(True)
    """

    coefficients: Tensor

    def __init__(self, n_columns: int, width: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("coefficients", torch.zeros(n_columns + 1, width))

    def forward(self, features: Tensor, design: Tensor) -> Tensor:
        """Return the features without what the design explains, shape (batch, width).

        Parameters
        ----------
        features : Tensor, shape (batch, width)
        design : Tensor, shape (batch, n_columns)
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            design = _with_constant(design.float())
            if not self.training:
                return features - design @ self.coefficients
            coefficients = torch.linalg.pinv(design) @ features
            if torch.is_grad_enabled():  # not in the first of two passes
                self.coefficients.lerp_(coefficients.detach(), self.momentum)
            return features - design @ coefficients

    def fit(self, features: Tensor, design: Tensor) -> None:
        """Set the coefficients to those of the training rows.

        Parameters
        ----------
        features : Tensor, shape (n, width)
        design : Tensor, shape (n, n_columns)
        """
        design = _with_constant(design.double())
        self.coefficients.copy_(torch.linalg.pinv(design) @ features.double())


def _with_constant(design: Tensor) -> Tensor:
    return torch.cat([design.new_ones(len(design), 1), design], dim=1)
