"""Benchmarks: one registry of cases and contestants, one runner, one result format.

`python -m benchmarks --help` explains the commands; docs/benchmarks.md says what is measured and how to read it.
"""
