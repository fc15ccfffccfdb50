"""Matsubara & Levorato 2020: split R-CNN detectors, distilled."""
