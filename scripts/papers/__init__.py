"""Tables and figures of papers, rebuilt: one folder a paper."""
