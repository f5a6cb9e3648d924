import os
from collections.abc import Iterator

if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores; before torch is imported, and for children
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from drpm.testing import TEST_DEVICES, use_device


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=TEST_DEVICES,
        default="cpu",
        help="emulated: CUDA kernels, run on the CPU (see `make test-cuda`); cuda: new tensors on the CUDA device",
    )


@pytest.fixture(autouse=True, scope="session")
def test_device(request: pytest.FixtureRequest) -> Iterator[str]:
    device = request.config.getoption("--device")
    with use_device(device):
        yield device


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
