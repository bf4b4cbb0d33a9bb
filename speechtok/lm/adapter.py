"""Continuous input: speech for a model that listens through an adapter, as SpeechGPT, Qwen-Audio and LLaVA do."""

import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.errors import InputError


class SpeechAdapter(nn.Module):
    """Stacks frames and projects them to the width of a language model; trains with it.

    The input is what :meth:`speechtok.ConvNeXtTokenizer.embed` gives, normalised here: codebook vectors have any scale.

    Args:
        latent_dim: width ``D`` of the codebook vectors.
        width: of the model.
        stack: frames that become one position of the model; 4 of 50 Hz are 12.5 positions a second.

    Raises:
        InputError: one of them is no whole number above 0.
    """

    def __init__(self, latent_dim: int, width: int, stack: int = 4) -> None:
        super().__init__()
        for name, value in (("latent_dim", latent_dim), ("width", width), ("stack", stack)):
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {value!r}; expected a whole number above 0")
        self.stack = stack
        self.norm = nn.LayerNorm(stack * latent_dim)
        self.project = nn.Sequential(nn.Linear(stack * latent_dim, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Args: ``vectors`` ``(B, T, D)``, with zeros past ``lengths`` ``(B,)``, in frames.

        Returns:
            ``(B, ceil(T / stack), width)``, and the positions of each row that hold speech, ``(B,)``.

        Raises:
            InputError: ``vectors`` has another width than the adapter.
        """
        dim = self.norm.normalized_shape[0] // self.stack
        if vectors.ndim != 3 or vectors.shape[2] != dim:
            raise InputError(
                f"vectors has shape {tuple(vectors.shape)}; expected (B, T, {dim}), as tok.embed gives it: make the "
                "adapter with the tokenizer's latent_dim"
            )
        padded = F.pad(vectors, (0, 0, 0, -vectors.shape[1] % self.stack))
        stacked = padded.reshape(len(padded), padded.shape[1] // self.stack, self.stack * dim)
        projected: Tensor = self.project(self.norm(stacked.to(self.norm.weight.dtype)))
        return projected, -(-lengths // self.stack)
