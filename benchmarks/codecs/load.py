"""Codecs by specification."""

from collections.abc import Callable

import speechtok.codecs
from benchmarks.codecs.baselines import Identity, Lowpass
from benchmarks.codecs.codec2 import Codec2
from benchmarks.codecs.interface import Codec
from benchmarks.codecs.lyra import Lyra
from benchmarks.codecs.opus import Opus
from benchmarks.codecs.snac import Snac
from benchmarks.codecs.spec import Spec, parse_spec
from benchmarks.codecs.tokenizers import TokenizerCodec
from benchmarks.codecs.xcodec import XCodec
from benchmarks.codecs.xcodec2 import XCodec2
from speechtok.errors import InputError

CODECS: dict[str, Callable[[Spec], Codec]] = {
    "speechtok": TokenizerCodec,
    "speechtokenizer": TokenizerCodec,
    **dict.fromkeys(speechtok.codecs.CODECS, TokenizerCodec),
    "xcodec": XCodec,
    "xcodec2": XCodec2,
    "snac": Snac,
    "lyra": Lyra,
    "opus": Opus,
    "codec2": Codec2,
    "identity": Identity,
    "lowpass": Lowpass,
}
"""Constructors by name. To benchmark a codec that :data:`speechtok.codecs.CODECS` does not have, add it here."""


def load_codec(text: str) -> Codec:
    """Load the codec of a specification.

    Raises:
        InputError: the specification is not valid, or the codec or something it needs is missing.
    """
    spec = parse_spec(text)
    if spec.name not in CODECS:
        raise InputError(f"codec {text[:80]!r} is unknown; expected one of {', '.join(CODECS)}")
    return CODECS[spec.name](spec)
