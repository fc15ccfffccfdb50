"""Benchmarks of time, memory and bytes, and fuzzers."""
