"""Fingerprints: which tokenizers give the same codes.

A fingerprint covers what decides codes: encoder, codebooks and their configuration. Versions before 0.2 hashed the
decoder too, so their fingerprint of a tokenizer differs from today's. It stays valid as an *alias*.
"""

NAMED_TOKENIZERS = ("speechtok-v1", "speechtok-v2")
"""Embedded tokenizers, the oldest first: folders among the package's assets."""

DEFAULT_TOKENIZER = NAMED_TOKENIZERS[-1]
"""The embedded tokenizer that :func:`speechtok.load` loads without a name."""

_ALIASES = {
    "18d457da55bebdd2": "6e0f5f766c426279",  # speechtok-v1, by version 0.1
}


def canonical_fingerprint(fingerprint: str) -> str:
    """Replace a known alias by the fingerprint of the same codes; return any other text unchanged."""
    return _ALIASES.get(fingerprint, fingerprint)
