"""Continuous speech input: an adapter from codebook vectors to the embeddings of a language model."""

import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.errors import InputError, quoted


class SpeechAdapter(nn.Module):
    """Stacks frames and projects them to the width of a language model with an MLP, as in LLaMA-Omni.

    The input is the output of :meth:`speechtok.Tokenizer.embed`. The adapter normalizes it, as codebook vectors may
    have any scale. It is trained with the language model.

    Args:
        latent_dim: width ``D`` of the codebook vectors.
        width: width of the language model.
        stack: frames per position of the language model; 4 frames at 50 Hz are 12.5 positions per second.

    Raises:
        InputError: an argument is not a whole number above 0.
    """

    def __init__(self, latent_dim: int, width: int, stack: int = 4) -> None:
        super().__init__()
        for name, value in (("latent_dim", latent_dim), ("width", width), ("stack", stack)):
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {quoted(value)}; expected a whole number above 0")
        self.stack = stack
        self.norm = nn.LayerNorm(stack * latent_dim)
        self.project = nn.Sequential(nn.Linear(stack * latent_dim, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Project the vectors of a batch.

        Args:
            vectors: ``(B, T, D)``, 0 in the frames after ``lengths``.
            lengths: frames of each utterance, ``(B,)``.

        Returns:
            Embeddings ``(B, ceil(T / stack), width)``, and the number of positions of each utterance, ``(B,)``.

        Raises:
            InputError: ``vectors`` has another width than ``latent_dim``.
        """
        dim = self.norm.normalized_shape[0] // self.stack
        if vectors.ndim != 3 or vectors.shape[2] != dim:
            raise InputError(
                f"vectors has the shape {tuple(vectors.shape)}; expected (B, T, {dim}), the output of tok.embed: make "
                "the adapter with the latent_dim of the tokenizer"
            )
        padded = F.pad(vectors, (0, 0, 0, -vectors.shape[1] % self.stack))
        stacked = padded.reshape(len(padded), padded.shape[1] // self.stack, self.stack * dim)
        projected: Tensor = self.project(self.norm(stacked.to(self.norm.weight.dtype)))
        return projected, -(-lengths // self.stack)
