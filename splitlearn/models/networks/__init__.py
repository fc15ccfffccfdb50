"""Networks, their weights, and box decoders of detectors."""
