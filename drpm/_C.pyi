"""The compiled module: what Python reads of it. The ops themselves are in `torch.ops.drpm`."""

from typing import Any

from torch import Tensor

noise_streams: dict[str, int]  # purpose: stream of the noise generator
partition_mode_limit: int  # largest n of `partition_mode`
samples_per_group: int  # samples that share one set of tables in `mvhg_sample`
sort_spacing: float  # how far apart masked scores are put behind a row's length
tensor_tau_schemas: dict[str, str]  # op: schema of its sibling that takes the temperature as a tensor

def all_finite(data: int, numel: int, is_double: bool) -> bool: ...
def none_negative(data: int, numel: int, is_double: bool) -> bool: ...
def plain_rows(*tensors: Tensor) -> Any: ...
def build_info() -> dict[str, Any]: ...
