"""Beysens et al. 2023: early exits with compressible activations."""
