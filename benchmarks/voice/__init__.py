"""Measure a voice model on voices that it has not heard in training; see :mod:`benchmarks.voice.__main__`."""
