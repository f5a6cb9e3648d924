"""What the tests of every op share: the devices, the one tolerance table, and comparison against float64."""

from drpm.testing.accuracy import FLOAT_DTYPES, TOLERANCE, Tolerance, assert_matches_reference, relative_error
from drpm.testing.device import EMULATED_LIBRARY, TEST_DEVICES, devices, emulated_ops, use_device

__all__ = [
    "EMULATED_LIBRARY",
    "FLOAT_DTYPES",
    "TEST_DEVICES",
    "TOLERANCE",
    "Tolerance",
    "assert_matches_reference",
    "devices",
    "emulated_ops",
    "relative_error",
    "use_device",
]
