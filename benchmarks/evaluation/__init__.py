"""Codecs and metrics over many utterances: in parallel, resumable, and independent of the number of workers.

Each utterance is scored separately, on one thread, in a worker process that holds its own codecs. Results are appended
to a journal. A later run reuses those of the same file by the same codec, metrics and library versions.
"""
