"""The tokenizer whose codes a network is trained on."""

import speechtok
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.errors import ConfigError


def load_tokenizer(name: str) -> ConvNeXtTokenizer:
    """Load a tokenizer by name; the default one if the name is empty.

    Raises:
        ConfigError: it is not of the ``convnext`` family, the only one that streams.
    """
    tokenizer = speechtok.load(name or None)
    if not isinstance(tokenizer, ConvNeXtTokenizer):
        raise ConfigError(
            f"tokenizer is {name!r}, a {type(tokenizer).__name__}; expected one of speechtok's own family, convnext, "
            "whose codes come without lookahead"
        )
    return tokenizer
