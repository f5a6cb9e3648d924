"""Loaders of real data: each returns tensors, and splits them by a seed without looking at labels."""

from drpm.data.digits import Digits, load_digits
from drpm.data.multi_mnist import MultiMNIST, make_multi_mnist

__all__ = ["Digits", "MultiMNIST", "load_digits", "make_multi_mnist"]
