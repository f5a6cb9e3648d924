"""Tuples of modalities by index, for training and for tests: PolyMNIST, MNIST-Street-Text and Levels.

Test tuples are made of the published test split of MNIST (and of Street's own test set); nothing of it is in training.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from drpm.data import StreetDigits, load_images, load_poly_mnist, load_svhn
from drpm.data.symbols import ALPHABET, DIGIT_WORDS, encode_text
from drpm.models.likelihoods import Categorical, Laplace, Likelihood
from drpm.ops._arguments import require
from experiments.multimodal.compose import (
    HUES,
    LEVEL_PICTURES,
    POLY_PICTURES,
    SLANTS,
    LevelDigits,
    PolyDigits,
    open_picture,
)
from experiments.multimodal.drawing import Partners, drawn
from experiments.multimodal.street import load_street

DATA = ("poly", "mst", "levels")
SPLITS = ("train", "test")
WORD_LENGTH = 8
PAIRS = 20  # tuples of a handwritten digit in MNIST-Street-Text
LAPLACE_SCALE = 0.75


class Kind(NamedTuple):
    """A modality: form and likelihood of its data, which networks it has, which factors it shows."""

    shape: tuple[int, ...]
    likelihood: Likelihood
    network: str
    factors: tuple[str, ...] = ("digit",)

    @property
    def is_image(self) -> bool:
        return self.network != "text"


class Tuples(Protocol):
    """Tuples of one split."""

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Modalities (of these names) of tuples: images in [0, 1], text int64."""
        ...

    def factors(self, indices: Tensor) -> dict[str, Tensor]:
        """Labels, (B,) int64 each; for scores only."""
        ...


class ModalityData(NamedTuple):
    """A data set: modalities, number of classes of every factor, tuples of both splits."""

    kinds: Mapping[str, Kind]
    classes: Mapping[str, int]
    train: Tuples
    test: Tuples

    @property
    def names(self) -> list[str]:
        return list(self.kinds)


class _Pictures:
    """Composed pictures as images."""

    def __init__(self, source: PolyDigits, names: Sequence[str]) -> None:
        self.source, self.names = source, list(names)

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        wanted = self.names if names is None else names
        return {name: self.source.pixels(self.names.index(name), indices).float() / 255 for name in wanted}

    def factors(self, indices: Tensor) -> dict[str, Tensor]:
        return self.source.factors(indices)


class _Published:
    """PolyMNIST's own folders."""

    def __init__(self, folder: Path) -> None:
        self.images, self.labels = load_poly_mnist(folder)
        self.names = [f"m{m}" for m in range(self.images.shape[1])]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        wanted = self.names if names is None else names
        return {name: self.images[indices, self.names.index(name)].float() / 255 for name in wanted}

    def factors(self, indices: Tensor) -> dict[str, Tensor]:
        return {"digit": self.labels[indices]}


class WordTuples:
    """A handwritten digit, a house number and a word that name the same digit; 20 tuples for each handwritten one.

    Args:
        digits: (N, 28, 28) uint8; labels: (N,) int64.
        street: house numbers.
        seed: int, decides pairs and where words start.
    """

    def __init__(self, digits: Tensor, labels: Tensor, street: StreetDigits, seed: int = 0) -> None:
        self.digits, self.labels, self.street, self.seed = digits, labels, street, seed
        self._partners = Partners(street.labels)
        absent = [digit for digit in labels.unique().tolist() if not self._partners.counts[digit]]
        require(not absent, "WordTuples", "street", "show every digit", f"none of {absent}")
        self._room = torch.tensor([WORD_LENGTH - len(word) + 1 for word in DIGIT_WORDS])

    def __len__(self) -> int:
        return PAIRS * len(self.labels)

    def factors(self, indices: Tensor) -> dict[str, Tensor]:
        return {"digit": self.labels[indices // PAIRS]}

    def batch(self, indices: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        labels, found = self.labels[indices // PAIRS], {}
        wanted = ("mnist", "street", "text") if names is None else names
        if "mnist" in wanted:
            found["mnist"] = self.digits[indices // PAIRS].unsqueeze(1).float() / 255
        if "street" in wanted:
            found["street"] = self.street.images[self._partners(self.seed, 1, indices, labels)].float() / 255
        if "text" in wanted:
            starts = drawn(self.seed, 2, indices, self._room[labels]).tolist()
            found["text"] = encode_text([DIGIT_WORDS[label] for label in labels.tolist()], WORD_LENGTH, starts)
        return found


def open_data(data: str, root: str, seed: int = 0, folder: str = "", svhn: str = "") -> ModalityData:
    """A data set by name.

    Args:
        data: "poly", "mst" or "levels".
        root: folder of `python -m drpm.data.fetch mnist pictures fonts`.
        seed: int, decides tuples.
        folder: of PolyMNIST as published, with `train` and `test`, instead of the composed one.
        svhn: folder of SVHN's `train_32x32.mat` and `test_32x32.mat`, instead of the rendered house numbers.
    """
    require(data in DATA, "multimodal", "data", f"be one of {', '.join(DATA)}", data)
    image = Laplace(LAPLACE_SCALE)
    if data == "poly" and folder:
        published = [_Published(Path(folder) / split) for split in SPLITS]
        kinds = {name: Kind((3, 28, 28), image, "picture") for name in published[0].names}
        return ModalityData(kinds, {"digit": 10}, *published)
    digits = load_images("mnist", root)
    halves = ((digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels))
    if data == "mst":
        sets = [load_svhn(Path(svhn) / f"{split}_32x32.mat") if svhn else load_street(root, split) for split in SPLITS]
        kinds = {
            "mnist": Kind((1, 28, 28), image, "digit"),
            "street": Kind((3, 32, 32), image, "street"),
            "text": Kind((WORD_LENGTH,), Categorical(len(ALPHABET)), "text"),
        }
        words = [WordTuples(*half, street, seed) for half, street in zip(halves, sets, strict=True)]
        return ModalityData(kinds, {"digit": 10}, *words)
    pictures = [open_picture(name, root) for name in (POLY_PICTURES if data == "poly" else LEVEL_PICTURES)]
    names = [f"m{m}" for m in range(len(pictures))]
    made = PolyDigits if data == "poly" else LevelDigits
    tuples = [_Pictures(made(*half, pictures, seed), names) for half in halves]
    if data == "poly":
        return ModalityData({name: Kind((3, 28, 28), image, "picture") for name in names}, {"digit": 10}, *tuples)
    shown = (("digit", "hue"), ("digit", "hue", "slant"), ("digit", "slant"))
    kinds = {name: Kind((3, 28, 28), image, "picture", factors) for name, factors in zip(names, shown, strict=True)}
    return ModalityData(kinds, {"digit": 10, "hue": HUES, "slant": SLANTS}, *tuples)
