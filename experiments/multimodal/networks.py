"""Encoders and decoders of thesis A.2.2, without their heads also the classifiers that score what is generated.

PolyMNIST has the released code's three 3 x 3 convolutions: Table A.7 repeats SVHN's, which do not fit 28 x 28.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drpm.data.symbols import ALPHABET

_SYMBOLS = len(ALPHABET)


def _conv(a: int, b: int, kernel: int, padding: int) -> list[nn.Module]:
    return [nn.Conv2d(a, b, kernel, 2, padding), nn.ReLU(inplace=True)]


class OneHot(nn.Module):
    def forward(self, symbols: Tensor) -> Tensor:  # (N, length) -> (N, 71, length)
        return F.one_hot(symbols, _SYMBOLS).transpose(1, 2).float()


def trunk(network: str) -> tuple[nn.Sequential, int]:
    """The layers before an encoder's heads, and the number of their features; (N, features, …) before flattening."""
    if network == "digit":  # Table A.1
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU(inplace=True)), 400
    if network == "street":  # Table A.3
        layers = [*_conv(3, 32, 4, 1), *_conv(32, 64, 4, 1), *_conv(64, 64, 4, 1), *_conv(64, 128, 4, 0)]
        return nn.Sequential(*layers), 128
    if network == "text":  # Table A.5
        layers = [OneHot(), nn.Conv1d(_SYMBOLS, 128, 1), nn.ReLU(inplace=True)]
        layers += [
            nn.Conv1d(128, 128, 4, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv1d(128, 128, 4, 2),
            nn.ReLU(inplace=True),
        ]
        return nn.Sequential(*layers), 128
    return nn.Sequential(*_conv(3, 32, 3, 1), *_conv(32, 64, 3, 1), *_conv(64, 128, 3, 1)), 2048


class Encoder(nn.Module):
    def __init__(self, network: str, latent: int) -> None:
        super().__init__()
        self.trunk, features = trunk(network)
        self.heads = nn.Linear(features, 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # -> (N, latent) twice
        mean, log_variance = self.heads(self.trunk(x).flatten(1)).chunk(2, dim=-1)
        return mean, log_variance


def decoder(network: str, latent: int) -> nn.Sequential:
    """(N, latent) to images or to logits (N, 71, 8); the last layer is linear."""
    relu = nn.ReLU(inplace=True)
    if network == "digit":
        return nn.Sequential(nn.Linear(latent, 400), relu, nn.Linear(400, 784), nn.Unflatten(1, (1, 28, 28)))
    if network == "street":
        return nn.Sequential(
            nn.Linear(latent, 128), relu, nn.Unflatten(1, (128, 1, 1)),
            nn.ConvTranspose2d(128, 64, 4, 2, 0), relu, nn.ConvTranspose2d(64, 64, 4, 2, 1), relu,
            nn.ConvTranspose2d(64, 32, 4, 2, 1), relu, nn.ConvTranspose2d(32, 3, 4, 2, 1),
        )  # fmt: skip
    if network == "text":
        return nn.Sequential(
            nn.Linear(latent, 128), relu, nn.Unflatten(1, (128, 1)),
            nn.ConvTranspose1d(128, 128, 4, 1, 0), relu, nn.ConvTranspose1d(128, 128, 4, 2, 1), relu,
            nn.ConvTranspose1d(128, _SYMBOLS, 1),
        )  # fmt: skip
    return nn.Sequential(
        nn.Linear(latent, 2048), relu, nn.Unflatten(1, (128, 4, 4)), nn.ConvTranspose2d(128, 64, 3, 2, 1), relu,
        nn.ConvTranspose2d(64, 32, 3, 2, 1, 1), relu, nn.ConvTranspose2d(32, 3, 3, 2, 1, 1),
    )  # fmt: skip


class Classifier(nn.Module):
    """An encoder's layers with one linear head for each factor.

    Args:
        network: of `trunk`.
        classes: factor -> number of classes.
    """

    def __init__(self, network: str, classes: dict[str, int]) -> None:
        super().__init__()
        self.trunk, features = trunk(network)
        self.heads = nn.ModuleDict({factor: nn.Linear(features, number) for factor, number in classes.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # factor -> (N, classes)
        found = self.trunk(x).flatten(1)
        return {factor: head(found) for factor, head in self.heads.items()}

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:  # -> (N, 128) or (N, 400)
        """The last layer before the heads, averaged over places."""
        found = self.trunk(x)
        return found if found.ndim == 2 else found.flatten(2).mean(-1)

    @torch.no_grad()
    def predicted(self, x: Tensor) -> dict[str, Tensor]:  # factor -> (N,) int64
        return {factor: logits.argmax(-1) for factor, logits in self(x).items()}
