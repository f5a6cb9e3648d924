"""Estimators with scikit-learn's interface: numpy in, numpy out."""

from drpm.sklearn.partition_clustering import PartitionClustering
from drpm.sklearn.select_k_features import SelectKFeatures

__all__ = ["PartitionClustering", "SelectKFeatures"]
