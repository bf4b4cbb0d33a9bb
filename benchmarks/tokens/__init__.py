"""Codes as a language model meets them.

``python -m benchmarks.tokens`` measures how much codes change under noise and other conditions, how many bits a second
remain after entropy coding, how many a small language model needs, and whether this model prefers words to non-words.

| file | content |
|---|---|
| ``codes.py`` | codes of many utterances, kept on disk |
| ``robustness.py`` | unit edit distance under conditions |
| ``entropy.py`` | adaptive entropy coding: order 0, and with contexts |
| ``language_model.py`` | the small language model |
| ``words.py`` | pairs of words, and non-words made of their halves |
"""
