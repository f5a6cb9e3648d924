"""Layers: random partitions, subset selection and sorting as torch.nn modules with annealed temperatures."""

from drpm.nn.neuron_partition import NeuronPartition
from drpm.nn.random_assignment import RandomAssignment
from drpm.nn.random_partition import RandomPartition
from drpm.nn.relaxed_sort import RelaxedSort
from drpm.nn.schedules import Exponential
from drpm.nn.subset_selector import Selection, SubsetSelector
from drpm.nn.temperature import Schedule, Temperature, advance_temperatures

__all__ = [
    "Exponential",
    "NeuronPartition",
    "RandomAssignment",
    "RandomPartition",
    "RelaxedSort",
    "Schedule",
    "Selection",
    "SubsetSelector",
    "Temperature",
    "advance_temperatures",
]
