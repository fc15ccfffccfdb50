"""Networks to cut, their weights, and what makes boxes of the outputs of detectors."""
