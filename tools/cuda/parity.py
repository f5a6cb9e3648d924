"""How often hard MVHG sizes of the CUDA kernels, run on the CPU, differ from those of the CPU kernels at one seed.

The two add in different orders and round log m! differently: logits differ by a few ulp of log m! before they are
rounded to the dtype. A row differs only where its two best outcomes are closer than that.

    python tools/cuda/parity.py --rows 20000
"""

from __future__ import annotations

import argparse

import torch

from drpm.testing import emulated_ops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20000)
    arguments = parser.parse_args()
    emulated_ops()
    torch.manual_seed(0)
    print("conditionals  dtype     K     n   rows that differ")
    for conditionals in ("exact", "merged"):
        for dtype in (torch.float32, torch.float64):
            for classes, n in ((3, 20), (10, 200)):
                rows = arguments.rows * 20 // n if n > 20 else arguments.rows
                log_omega = torch.randn(rows, classes, dtype=dtype)
                counts = torch.full((1, classes), n), torch.full((1,), n)
                order = torch.empty((0, classes), dtype=torch.int64)
                rest = (torch.tensor([7]), order, 1.0, 1, True, True, False)
                bound = (n,) if conditionals == "exact" else ()
                name = f"mvhg_sample_{conditionals}"
                want = getattr(torch.ops.drpm, name)(log_omega, *counts, *rest, *bound)[0]
                got = getattr(torch.ops.drpm_emulated, name)(log_omega, *counts, *rest, *bound)[0]
                differ = int((want != got).any(-1).sum())
                print(f"{conditionals:12}  {str(dtype)[6:]:8}  {classes:2}  {n:4}   {differ} of {rows}", flush=True)


if __name__ == "__main__":
    main()
