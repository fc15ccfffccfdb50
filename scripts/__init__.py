"""Demo, tests and environment; papers rebuilt, and benchmarks."""
