"""Clustering, thesis 5.3.1: docs/experiments/clustering.md."""
