"""Measurements of speechtok; each module is a command: ``python -m benchmarks.reconstruction``, ``benchmarks.speed``."""
