"""What the rebuilt papers share: runs of configs, kept results, networks at their cuts."""
