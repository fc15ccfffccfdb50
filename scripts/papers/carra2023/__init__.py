"""Carra & Neglia 2023: min–max quantization and run-length coding."""
