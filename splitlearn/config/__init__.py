"""Objects from configs and command lines, run folders and error messages; the only package with jsonargparse."""
