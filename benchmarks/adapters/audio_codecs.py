"""A codec class for ``audiocodecs`` (Della Libera), which serves the DASB-like benchmarks of its repository.

``make_codec()(sample_rate=24_000)`` behaves like the codecs of that package: ``sig_to_toks``, ``toks_to_sig`` and
``embs``.
"""

import importlib
from typing import Any

import torch
from torch import Tensor

import speechtok
from speechtok.errors import InputError


def make_codec() -> Any:
    """Make the class.

    Raises:
        InputError: the package ``audiocodecs`` cannot be imported.
    """
    try:
        package: Any = importlib.import_module("audiocodecs.codec")
    except ImportError as error:
        raise InputError(f"audiocodecs cannot be imported ({error}); expected its repository, installed") from error

    class Speechtok(package.Codec):  # type: ignore[misc]
        """speechtok as a codec of ``audiocodecs``.

        Args:
            sample_rate: of the signals that are passed in, in hertz.
            mode: ``encode``, ``decode`` or ``reconstruct``.
            num_codebooks: codebooks to use, from the first.
            model: a tokenizer, as :func:`speechtok.load` takes it; by default, the default tokenizer.
        """

        def __init__(
            self, sample_rate: int, mode: str = "reconstruct", num_codebooks: int = 8, model: str | None = None
        ) -> None:
            tokenizer = speechtok.load(model)
            super().__init__(sample_rate, tokenizer.sample_rate, mode)
            self.num_codebooks, self.vocab_size = num_codebooks, tokenizer.codebook_size
            self.model = tokenizer

        @torch.no_grad()
        def embs(self) -> Tensor:
            """Vectors of the codebooks, ``(K, C, H)``."""
            own = range(self.vocab_size)
            zeros = torch.zeros(1, self.num_codebooks, self.vocab_size, dtype=torch.int64)
            base = self.model.embed(zeros)[0]
            vectors = []
            for index in range(self.num_codebooks):
                codes = zeros.clone()
                codes[0, index] = torch.tensor(own)
                first = torch.zeros_like(codes[:, : index + 1])
                # the sum of all vectors less that of the others
                vectors.append(self.model.embed(codes)[0] - base + self._vector_of_zero(first, index))
            return torch.stack(vectors)

        def _vector_of_zero(self, codes: Tensor, index: int) -> Tensor:
            whole: Tensor = self.model.embed(codes, num_codebooks=index + 1)[0]
            return whole - self.model.embed(codes, num_codebooks=index)[0] if index else whole

        @torch.no_grad()
        def _sig_to_toks(self, sig: Tensor, length: Tensor) -> Tensor:
            lengths = (length * sig.shape[1]).round().long().clamp(min=1).tolist()
            tokens = self.model.encode(sig, self.orig_sample_rate, lengths, num_codebooks=self.num_codebooks)
            return tokens.codes.movedim(1, 2)

        @torch.no_grad()
        def _toks_to_sig(self, toks: Tensor, length: Tensor) -> Tensor:
            decoded: Tensor = self.model.decode(toks.movedim(2, 1))
            return decoded

        @torch.no_grad()
        def _sig_to_qfeats(self, sig: Tensor, length: Tensor) -> Tensor:
            return self._toks_to_qfeats(self._sig_to_toks(sig, length), length)

        @torch.no_grad()
        def _toks_to_qfeats(self, toks: Tensor, length: Tensor) -> Tensor:
            features: Tensor = self.model.embed(toks.movedim(2, 1))
            return features

        def _sig_to_feats(self, sig: Tensor, length: Tensor) -> Tensor:
            raise NotImplementedError("speechtok has no public features before quantization; use _sig_to_qfeats")

    return Speechtok
