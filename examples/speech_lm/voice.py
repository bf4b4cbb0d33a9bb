"""The voice model: codebooks 1 and up for given codes of codebook 0."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from examples.speech_lm import models
from examples.speech_lm.dataset import crop_frames
from examples.speech_lm.sampling import sample
from speechtok.lm import AudioVocabulary, InterleavedPattern

UNKNOWN = -1
"""Marks a code that the model has to write."""


class Voice:
    """Completes codes of codebook 0 in the voice of a reference.

    Args:
        directory: folder ``model`` of a training of the stage ``voice``.

    Raises:
        SpeechtokError: the model cannot be loaded.
    """

    def __init__(self, directory: str | Path) -> None:
        self.model, processor, config = models.load_model(directory, "voice")
        self.vocabulary: AudioVocabulary = processor.vocabulary
        self.frames = crop_frames(config, self.vocabulary)  # context that the model was trained on

    def __call__(self, codes: Tensor, reference: Tensor | None = None, temperature: float = 0.8) -> Tensor:
        """Complete codes, in overlapping windows.

        Args:
            codes: of codebook 0, ``(T,)``.
            reference: codes of another utterance, ``(Q, T')``.
            temperature: of sampling.

        Returns:
            Codes of all codebooks, ``(Q, T)``.
        """
        known = torch.full((self.vocabulary.num_codebooks, len(codes)), UNKNOWN)
        known[0] = codes
        begin = 0
        if reference is not None:
            begin = min(reference.shape[1], self.frames // 2)
            known = torch.cat([reference[:, reference.shape[1] - begin :], known], 1)
        done, total = begin, known.shape[1]
        while done < total:
            first = max(0, done - self.frames // 2)
            window = known[:, first : first + self.frames]
            filled = fill(self.model, self.vocabulary, window, temperature)
            last = first + window.shape[1]
            # the last frames of a window lack the codes that follow them
            kept = last if last == total else max(done + 1, last - self.frames // 8)
            known[:, done:kept] = filled[:, done - first : kept - first]
            done = kept
        return known[:, begin:]


@torch.inference_mode()
def fill(model: PreTrainedModel, vocabulary: AudioVocabulary, codes: Tensor, temperature: float) -> Tensor:
    """Generate the unknown codes of an utterance in the order of the pattern.

    Args:
        model: the model.
        vocabulary: with an interleaved pattern.
        codes: ``(Q, T)``, with :data:`UNKNOWN` where the model has to write.
        temperature: of sampling.

    Returns:
        ``(Q, T)`` without unknown codes.
    """
    num_codebooks, frames = codes.shape
    pattern = vocabulary.pattern
    assert isinstance(pattern, InterleavedPattern)
    positions = pattern.positions(frames, num_codebooks).flatten()
    order = torch.empty_like(positions)
    order[positions] = torch.arange(len(positions))  # flat index of the code at each position
    filled = codes.flatten().clone()
    pending, cache = [vocabulary.bos_id], None
    for index in order.tolist():
        first = vocabulary.first_code + index // frames * vocabulary.codebook_size
        if filled[index] == UNKNOWN:
            out = model(input_ids=torch.tensor([pending]), past_key_values=cache, use_cache=True)
            pending, cache = [], out.past_key_values
            scores = out.logits[0, -1, first : first + vocabulary.codebook_size].float()
            filled[index] = sample(scores, temperature)
        pending.append(first + int(filled[index]))
    return filled.view(num_codebooks, frames)
