"""Experiments: each trains a model on real data and writes numbers and pictures."""
