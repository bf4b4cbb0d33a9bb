"""Reports of an evaluation: JSON with every score, Markdown, and one HTML page that needs no other file.

``report.json`` holds every score of every utterance, so that :mod:`benchmarks.compare` can pair two runs.
"""
