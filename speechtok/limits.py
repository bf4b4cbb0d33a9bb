"""Largest values that files may claim, so that a damaged or hostile file cannot exhaust memory or time."""

MAX_SAMPLE_RATE = 192_000
"""Highest sample rate in hertz."""

MAX_HOP_LENGTH = 2**20
"""Most samples per frame."""

MAX_CODEBOOKS = 1_024
"""Most codebooks ``Q``."""

MAX_CODEBOOK_SIZE = 32_768
"""Most entries ``N`` of a codebook: tokens files hold int16."""

MAX_VOCABULARY_SIZE = 2**20
"""Most ids of an audio vocabulary. Each has a name in a text tokenizer, and a row of embeddings in a model."""

MAX_VOCABULARY_OFFSET = 2**28
"""Most ids of the text that an audio vocabulary follows."""

MAX_FINGERPRINT = 1_024
"""Most characters of a fingerprint."""

MAX_GENERATED_BY = 1_024
"""Most characters of the names of the models that generated tokens."""

MAX_DEPTH = 64
"""Deepest nesting of JSON, YAML and other plain values."""
