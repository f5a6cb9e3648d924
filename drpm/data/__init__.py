"""Data sets: loaders of real data, which split by a seed without looking at labels."""

from drpm.data.digits import Digits, load_digits
from drpm.data.gene_expression import Expression, load_blood_cells, load_leukaemia
from drpm.data.idx import ImageSet, load_images, read_idx
from drpm.data.keel import Table, load_keel
from drpm.data.mpi3d import MPI3D
from drpm.data.multiple_features import MultipleFeatures, load_multiple_features

__all__ = [
    "MPI3D",
    "Digits",
    "Expression",
    "ImageSet",
    "MultipleFeatures",
    "Table",
    "load_blood_cells",
    "load_digits",
    "load_images",
    "load_keel",
    "load_leukaemia",
    "load_multiple_features",
    "read_idx",
]
