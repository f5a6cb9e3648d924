"""Laws of sizes, orders and partitions under the torch.distributions contract; one class a file."""

from drpm.distributions.k_subset import KSubset
from drpm.distributions.kl import kl_monte_carlo
from drpm.distributions.multivariate_noncentral_hypergeometric import MultivariateNoncentralHypergeometric
from drpm.distributions.plackett_luce import PlackettLuce
from drpm.distributions.random_assignment import RandomAssignment
from drpm.distributions.random_partition import RandomPartition
from drpm.distributions.relaxed_multivariate_noncentral_hypergeometric import (
    RelaxedMultivariateNoncentralHypergeometric,
)
from drpm.distributions.relaxed_plackett_luce import RelaxedPlackettLuce
from drpm.distributions.relaxed_random_assignment import RelaxedRandomAssignment
from drpm.distributions.relaxed_random_partition import RelaxedRandomPartition

__all__ = [
    "KSubset",
    "MultivariateNoncentralHypergeometric",
    "PlackettLuce",
    "RandomAssignment",
    "RandomPartition",
    "RelaxedMultivariateNoncentralHypergeometric",
    "RelaxedPlackettLuce",
    "RelaxedRandomAssignment",
    "RelaxedRandomPartition",
    "kl_monte_carlo",
]
