"""Training of speechtok tokenizers; run ``python training/train.py``."""
