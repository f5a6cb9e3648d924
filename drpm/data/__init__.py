"""Data sets: loaders of real data, which split by a seed without looking at labels."""

from drpm.data.celeba import CelebA
from drpm.data.digits import Digits, load_digits
from drpm.data.gene_expression import Expression, load_blood_cells, load_leukaemia
from drpm.data.idx import ImageSet, load_images, read_idx
from drpm.data.keel import Table, load_keel
from drpm.data.missing import mask_at_random
from drpm.data.mpi3d import MPI3D
from drpm.data.multiple_features import MultipleFeatures, load_multiple_features
from drpm.data.poly_mnist import PolyMNIST, load_poly_mnist
from drpm.data.svhn import StreetDigits, load_svhn

__all__ = [
    "MPI3D",
    "CelebA",
    "Digits",
    "Expression",
    "ImageSet",
    "MultipleFeatures",
    "PolyMNIST",
    "StreetDigits",
    "Table",
    "load_blood_cells",
    "load_digits",
    "load_images",
    "load_keel",
    "load_leukaemia",
    "load_multiple_features",
    "load_poly_mnist",
    "load_svhn",
    "mask_at_random",
    "read_idx",
]
