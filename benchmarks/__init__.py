"""Measurements of speechtok; each module is a command, such as ``python -m benchmarks.reconstruction``."""
