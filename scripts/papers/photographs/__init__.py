"""Bottlenecks that are trained on photographs without labels, against pictures: what is sent, and what it costs."""
