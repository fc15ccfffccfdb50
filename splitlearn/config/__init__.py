"""Configs and command lines: objects, run folders and error messages. Only this package uses jsonargparse."""
