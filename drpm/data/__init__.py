"""Loaders of real data: each returns tensors, and splits them by a seed without looking at labels."""

from drpm.data.digits import Digits, load_digits

__all__ = ["Digits", "load_digits"]
