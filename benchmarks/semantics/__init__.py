"""Linguistic content of codes.

``python -m benchmarks.semantics`` measures how well each codebook predicts phones, and how codebook 0 behaves as a
sequence of discrete units.
"""
