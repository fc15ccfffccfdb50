"""Datta et al. 2022: random search over bottlenecks of a frozen network."""
