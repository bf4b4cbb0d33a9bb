"""Benchmarks of speechtok. Each of these is a command, such as ``python -m benchmarks.reconstruction``.

| command | measures |
|---|---|
| ``reconstruction`` | quality and bitrate of codecs, as a report; ``compare`` compares two reports |
| ``semantics`` | phones and speakers in the codes |
| ``exactness`` | codes that depend on batch, chunks, threads or processor |
| ``speed`` | throughput, latency and memory; ``seanet_speed`` for the published SpeechTokenizer |
| ``vocabulary`` | cost of the codebook patterns |
| ``training_speed`` | training throughput |
"""
