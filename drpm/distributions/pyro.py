"""The distributions of this package as Pyro distributions, for `pyro.sample`; needs pyro-ppl.

from drpm.distributions.pyro import RandomPartition
labels = pyro.sample("labels", RandomPartition(log_omega, log_scores))
"""

from __future__ import annotations

from typing import Any

from pyro.distributions.torch_distribution import TorchDistributionMixin

from drpm import distributions


def _with_pyro(name: str) -> type:
    base: Any = getattr(distributions, name)

    def expand(self: Any, batch_shape: Any, _instance: Any = None) -> Any:
        return base.expand(self, batch_shape, _instance=self._get_checked_instance(type(self), _instance))

    namespace = {"__doc__": base.__doc__, "__module__": __name__, "expand": expand}
    return type(name, (base, TorchDistributionMixin), namespace)


__all__ = [name for name in distributions.__all__ if isinstance(getattr(distributions, name), type)]
globals().update({name: _with_pyro(name) for name in __all__})
