"""Weak supervision, thesis 5.3.3: docs/experiments/weak_supervision.md."""
