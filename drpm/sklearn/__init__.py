"""Estimators with scikit-learn's interface: numpy in, numpy out."""

from drpm.sklearn.partition_clustering import PartitionClustering

__all__ = ["PartitionClustering"]
