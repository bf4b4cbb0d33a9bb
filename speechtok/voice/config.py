"""Architecture of a voice model."""

from dataclasses import dataclass

from speechtok.errors import ConfigError, quoted

_LARGEST = {
    "codebook_size": 65_536,
    "latent_dim": 4_096,
    "num_codebooks": 64,
    "dim": 2_048,
    "depth": 64,
    "heads": 64,
    "head_depth": 64,
    "window": 512,
    "history": 64,
    "lookahead": 64,
    "embedding_dim": 1_024,
}
_MAX_HEAD_DIM = 1_024
_MAY_BE_ZERO = {"history", "lookahead"}


@dataclass(frozen=True)
class VoiceConfig:
    """Architecture of a voice model.

    Attributes:
        codebook_size: entries of the codebooks of its tokenizer.
        latent_dim: width of the acoustic part of the tokenizer's latent.
        num_codebooks: codebooks of its tokenizer, the semantic one included.
        dim: width of the transformer.
        depth: blocks of the transformer.
        heads: attention heads of each block.
        head_depth: layers of the flow head.
        window: frames that a frame attends to, itself included, beside the prompt.
        history: semantic codes before a frame that it sees directly.
        lookahead: semantic codes after a frame that it sees.
        embedding_dim: width of the embedding of a semantic code.
    """

    codebook_size: int = 1_024
    latent_dim: int = 64
    num_codebooks: int = 8
    dim: int = 320
    depth: int = 4
    heads: int = 5
    head_depth: int = 3
    window: int = 256
    history: int = 4
    lookahead: int = 8
    embedding_dim: int = 64

    def __post_init__(self) -> None:
        for name, maximum in _LARGEST.items():
            value, low = getattr(self, name), 0 if name in _MAY_BE_ZERO else 1
            if type(value) is not int or not low <= value <= maximum:
                raise ConfigError(f"{name} is {quoted(value)}; expected a whole number from {low} to {maximum}")
        if self.dim % self.heads or self.dim // self.heads > _MAX_HEAD_DIM:
            raise ConfigError(
                f"dim is {self.dim} and heads {self.heads}; expected dim to be a multiple of heads, at most "
                f"{_MAX_HEAD_DIM} times as large"
            )
        if self.num_codebooks < 2:
            raise ConfigError(f"num_codebooks is {self.num_codebooks}; expected at least 2, one of them acoustic")
