"""What the demo, the experiments and the benchmarks share: runs that resume, and where a result comes from."""
