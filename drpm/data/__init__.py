"""Data sets: loaders of real data, which split by a seed without looking at labels, and sets with known factors."""

from drpm.data.arm_scene import ArmScene, render_all
from drpm.data.digits import Digits, load_digits
from drpm.data.factors import Views, sample_views
from drpm.data.idx import ImageSet, load_images, read_idx
from drpm.data.keel import Table, load_keel
from drpm.data.mpi3d import MPI3D
from drpm.data.multi_mnist import MultiMNIST, make_multi_mnist
from drpm.data.multiple_features import MultipleFeatures, load_multiple_features

__all__ = [
    "MPI3D",
    "ArmScene",
    "Digits",
    "ImageSet",
    "MultiMNIST",
    "MultipleFeatures",
    "Table",
    "Views",
    "load_digits",
    "load_images",
    "load_keel",
    "load_multiple_features",
    "make_multi_mnist",
    "read_idx",
    "render_all",
    "sample_views",
]
