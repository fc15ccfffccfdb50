"""Bottlenecks: an encoder for the device and a decoder for the edge server."""
