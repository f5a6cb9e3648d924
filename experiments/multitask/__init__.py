"""Multitask learning, thesis 5.3.2: docs/experiments/multitask.md."""
