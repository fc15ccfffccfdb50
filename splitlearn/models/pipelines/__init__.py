"""Whole models from image to payload to prediction, each a cut and one or several coders."""
