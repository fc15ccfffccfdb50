"""From YAML and command lines to objects, run folders and error messages: the only room that knows jsonargparse."""
