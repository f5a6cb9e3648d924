"""Models built on the ops: importable classes with fit, predict, save and load."""

from drpm.models.clustering import VariationalPartitionClustering
from drpm.models.clustering_config import ClusteringConfig

__all__ = ["ClusteringConfig", "VariationalPartitionClustering"]
