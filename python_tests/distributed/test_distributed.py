"""drpm.nn under DDP and FSDP2, and drpm.distributed, in two processes of torchrun; the checks are in worker.py."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")
CHECKS = re.findall(r"^def (check_\w+)", WORKER.read_text(), flags=re.MULTILINE)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*torchrun, str(WORKER), str(out)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("check", CHECKS)
def test_two_processes(results, check):
    for rank, result in enumerate(results):
        assert result[check] is None, f"process {rank}: {result[check]}"
