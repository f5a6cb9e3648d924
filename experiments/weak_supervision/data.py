"""Data of the weakly supervised experiment: tuples of views, split into those of training and those of tests."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from drpm.data import MPI3D, load_multiple_features
from drpm.models.multiview_vae import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder
from experiments.weak_supervision.arm_scene import ArmScene, render_all
from experiments.weak_supervision.factors import FactorImages, Views, held_out_images, sample_split_views

_HELD_OUT = 0.2  # share of the images (of the digits) that only tests see
_CHUNK = 250  # tuples scored at a time

Groups = Sequence[tuple[int, ...]]


class Targets(NamedTuple):
    """What can be predicted of N tuples: `values` (N, V, F) int64 classes of each view; `level` (N, F) int64, the group
    of views that shares it, `len(groups)` where it is private, -1 where it belongs to every part."""

    values: Tensor
    level: Tensor


class ViewData(Protocol):
    """Training tuples by index, and tuples to score."""

    names: Sequence[str]  # of the targets
    true_sizes: dict[int, int]  # group of the model -> number of factors that it shares, where known
    likelihood: str
    plain_views: int

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> list[Tensor]:
        """Training tuples: V tensors (B, …)."""
        ...

    def levels(self, indices: Tensor) -> Tensor:
        """Which group shares each target of the training tuples: (B, F), as `Targets.level`; for the oracle alone."""
        ...

    def plain_batch(self, step: int, size: int) -> list[Tensor]:
        """Training elements that share nothing, in `plain_views` tensors: what pre-training sees."""
        ...

    def network(self, latent: int, hidden: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Encoders and decoders."""
        ...

    def scored(self, test: bool, count: int, seed: int) -> tuple[Targets, Iterator[list[Tensor]]]:
        """Targets of `count` tuples of training or of held-out elements, and their views in pieces."""
        ...


class FactorViews:
    """Tuples of images that share factors; a fifth of the images is seen by tests only.

    Args:
        source: images by factor values.
        views: int, V.
        shared: the sets of views that share factors, with how many.
        groups: the model's sets of views.
        count: int, number of training tuples.
        seed: int, decides the tuples; the same images are held out for all seeds.
        width: channels of the networks' first convolution.
        initial: weights at the start, "torch" (its default) or "he" (He et al. 2015, fan-in).
    """

    likelihood = "bernoulli"
    plain_views = 2  # whatever `views` is, so that experiments with different numbers can share pre-training

    def __init__(
        self,
        source: FactorImages,
        views: int,
        shared: Sequence[tuple[tuple[int, ...], int]],
        groups: Groups,
        count: int,
        seed: int,
        width: int = 32,
        initial: str = "torch",
    ) -> None:
        self.width, self.initial = width, initial
        self.source, self.views, self.shared, self.seed = source, views, list(shared), seed
        self.names: Sequence[str] = source.names
        self.held_out = held_out_images(source.sizes, _HELD_OUT)
        self.train, self._train_group = self._draw(count, test=False, seed=4 * seed)
        self._plain: Tensor | None = None
        kept = list(groups)
        self.true_sizes = {kept.index(members): number for members, number in self.shared if members in kept}
        # Factors of a set that the model has no group for are private to the model.
        levels = [kept.index(members) if members in kept else len(kept) for members, _ in self.shared]
        self._levels = torch.tensor([*levels, len(kept)])

    def _draw(self, count: int, test: bool, seed: int) -> Views:
        return sample_split_views(self.source.sizes, count, self.shared, self.held_out, test, self.views, seed)

    def _images(self, factors: Tensor) -> list[Tensor]:  # (B, V, F) -> V tensors (B, 3, side, side)
        return list(self.source.images(factors.transpose(0, 1)))

    def __len__(self) -> int:
        return len(self.train)

    def batch(self, indices: Tensor) -> list[Tensor]:
        return self._images(self.train[indices])

    def levels(self, indices: Tensor) -> Tensor:
        return self._levels[self._train_group[indices]]

    def plain_batch(self, step: int, size: int) -> list[Tensor]:
        if self._plain is None:
            seed, count = 4 * self.seed + 1, 2**16
            self._plain = sample_split_views(self.source.sizes, count, 0, self.held_out, False, 2, seed).factors
        first = step * size % (len(self._plain) - size)
        return self._images(self._plain[first : first + size])

    def network(self, latent: int, hidden: int) -> tuple[list[nn.Module], list[nn.Module]]:
        shape = {"side": self._images(self.train[:1])[0].shape[-1], "width": self.width}
        encoder, decoder = ConvEncoder(latent, **shape), ConvDecoder(latent, **shape)
        for network in (encoder, decoder):
            if self.initial == "he":
                network.apply(_he_weights)
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return [encoder], [decoder]

    def scored(self, test: bool, count: int, seed: int) -> tuple[Targets, Iterator[list[Tensor]]]:
        factors, group = self._draw(count, test, seed=4 * seed + 2)
        return Targets(factors, self._levels[group]), (self._images(some) for some in factors.split(_CHUNK))


def _he_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        # torch keeps the outputs of a transposed convolution in the second axis: its fan-out is the fan-in
        mode: Literal["fan_in", "fan_out"] = "fan_out" if isinstance(module, nn.ConvTranspose2d) else "fan_in"
        nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)


class DigitViews:
    """UCI digits in some of their six descriptions, standardised; a fifth of the digits is seen by tests only."""

    likelihood = "gaussian"
    names: Sequence[str] = ("digit",)

    def __init__(self, root: str, names: Sequence[str]) -> None:
        folder = Path(root) / "multiple_features"
        loaded = load_multiple_features(folder if folder.is_dir() else None)
        held_out = held_out_images((len(loaded.labels),), _HELD_OUT)
        self._views: dict[bool, list[Tensor]] = {False: [], True: []}
        self._labels = {test: loaded.labels[held_out == test] for test in (False, True)}
        for name in names:
            features = loaded.views[name]
            known = features[~held_out]
            scaled = (features - known.mean(0)) / known.std(0).clamp(min=1e-6)
            for test in (False, True):
                self._views[test].append(scaled[held_out == test])
        self.true_sizes: dict[int, int] = {}
        self.plain_views = len(names)

    def __len__(self) -> int:
        return len(self._labels[False])

    def batch(self, indices: Tensor) -> list[Tensor]:
        return [view[indices] for view in self._views[False]]

    def levels(self, indices: Tensor) -> Tensor:
        return torch.full((len(indices), 1), -1)

    def plain_batch(self, step: int, size: int) -> list[Tensor]:
        first = step * size % (len(self) - size)
        return [view[first : first + size] for view in self._views[False]]

    def network(self, latent: int, hidden: int) -> tuple[list[nn.Module], list[nn.Module]]:
        widths = [view.shape[1] for view in self._views[False]]
        encoders: list[nn.Module] = [DenseEncoder(width, latent, hidden) for width in widths]
        return encoders, [DenseDecoder(width, latent, hidden) for width in widths]

    def scored(self, test: bool, count: int, seed: int) -> tuple[Targets, Iterator[list[Tensor]]]:
        labels, views = self._labels[test][:count], self._views[test]
        values = labels[:, None, None].expand(-1, len(views), 1)
        pieces = zip(*(view[:count].split(_CHUNK) for view in views), strict=True)
        return Targets(values, torch.full((len(labels), 1), -1)), (list(piece) for piece in pieces)


class HalvedImages:
    """Images of half the side, kept in memory: means of 2 x 2 pixels, rounded to 256 levels.

    Args:
        source: images of mpi3d's format.
    """

    def __init__(self, source: MPI3D) -> None:
        self.names, self.sizes = source.names, source.sizes
        grid = torch.arange(math.prod(self.sizes))
        halved = []
        for rows in grid.split(2048):
            whole = source.images(torch.stack(torch.unravel_index(rows, self.sizes), dim=-1))
            halved.append(avg_pool2d(whole, 2).mul_(255).round_().to(torch.uint8))
        self._pixels = torch.cat(halved)
        self._strides = torch.tensor([math.prod(self.sizes[k + 1 :]) for k in range(len(self.sizes))])

    def images(self, factors: Tensor) -> Tensor:  # (..., F) -> (..., 3, side, side)
        return self._pixels[(factors * self._strides).sum(-1)].float().div_(255)


def open_factor_images(data: str, root: str, file: str, joint_values: int, side: int = 64) -> FactorImages:
    """The arm scene, rendered into `root` when it is not there yet, or a file of mpi3d; `side` 64, or 32: halved."""
    if data == "mpi3d":
        images = MPI3D(file)
    else:
        scene = ArmScene(joint_values)
        images = MPI3D(render_all(Path(root) / f"arm_scene_{joint_values}.npy", scene), sizes=scene.sizes)
        images.names = scene.names
    return HalvedImages(images) if side == 32 else images
