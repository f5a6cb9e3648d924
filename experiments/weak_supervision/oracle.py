"""A selection that is told which factors a pair shares: what the model can do when the selection is right."""

import torch
from torch import Tensor, nn

from drpm.models.view_aggregation import Selection


class OracleSelection(nn.Module):
    """Every latent dimension belongs to a factor, the last factors first: dimension i to factor F - 1 - i mod F.

    Dimensions are shared where the factor is, by what `tell` was given for the batch. No parameters, no terms.

    Args:
        latent: int, d.
        factors: int, F.
    """

    owner: Tensor

    def __init__(self, latent: int, factors: int) -> None:
        super().__init__()
        self.register_buffer("owner", factors - 1 - torch.arange(latent) % factors, persistent=False)
        self.level = torch.empty(0, factors, dtype=torch.int64)

    def tell(self, level: Tensor) -> None:  # (B, F) int64, 0 where all views share the factor
        self.level = level

    def forward(self, means: Tensor, log_variances: Tensor, tau: float = 1.0) -> Selection:
        if len(self.level) != len(means):
            raise ValueError(f"OracleSelection: tell must be given {len(means)} rows, got {len(self.level)}")
        shared = (self.level.to(self.owner.device) == 0)[:, self.owner]
        masks = torch.stack([shared, ~shared], dim=1).to(means)
        return Selection(masks, masks.sum(-1), masks.new_zeros(len(masks)))
