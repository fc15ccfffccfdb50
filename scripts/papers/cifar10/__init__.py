"""Carra & Neglia 2023, Datta et al. 2022 and ours in one table."""
