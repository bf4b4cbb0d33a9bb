"""What speechtok raises. Every message says the value, what was expected, and the way out."""


class SpeechtokError(Exception):
    """Anything that speechtok raises on purpose."""


class InputError(SpeechtokError, ValueError):
    """A value that the caller passed cannot be used."""


class AudioError(InputError):
    """A waveform, a sample rate or an audio file that cannot be used."""


class TokensError(InputError):
    """Codes or a tokens file that cannot be used."""


class FingerprintError(TokensError):
    """Tokens made by another tokenizer than the one asked to decode them."""


class VocabularyError(InputError):
    """Ids, a pattern, a text tokenizer or a language model that do not fit an audio vocabulary."""


class StreamError(InputError):
    """A stream used after its end, or a row of it after its utterance's."""


class ConfigError(InputError):
    """A configuration that does not describe a tokenizer or a training."""


class CheckpointError(InputError):
    """A saved tokenizer that is missing, damaged or unsafe to read."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that does not exist."""


class OutputError(SpeechtokError, OSError):
    """A result that could not be written; what stood at its place before is untouched."""
