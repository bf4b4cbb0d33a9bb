"""The residual VQ while it is trained: codebooks are moving averages of the frames that chose their vectors."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.quantizer import first_largest
from training.config import QuantizerConfig
from training.distributed import World


class Quantized(NamedTuple):
    """What :class:`TrainingQuantizer` makes of a latent.

    Attributes:
        latent: quantized, ``(B, T, D)``, with straight-through gradient; semantic numbers that are apart have none: how
            it sounds shall not move them.
        semantic: what codebook 0 says, with straight-through gradient: the semantic numbers if they are apart,
            otherwise all.
        commitment: mean squared distance of what the stages look at from what they choose.
        codes: ``(B, Q, T)``, -1 where a row does not use the codebook.
    """

    latent: Tensor
    semantic: Tensor
    commitment: Tensor
    codes: Tensor


class TrainingQuantizer(nn.Module):
    """Codebooks that follow the encoder: exponential moving averages, dead vectors replaced, k-means to begin with.

    The gradient passes straight through the sum of all stages once, not once a stage, and every row of a batch may use
    its own prefix of the codebooks. :meth:`forward` changes nothing; :meth:`update` moves the codebooks, once a step.

    Args:
        dim: width ``D``.
        semantic_dim: numbers of the latent that stage 0 looks at, the first ones, and the other stages do not; 0: all
            stages look at all (see :class:`speechtok.nn.quantizer.ResidualQuantizer`).
        num_codebooks: stages ``Q``.
        codebook_size: vectors ``N`` of each stage.
        frames_per_step: frames that a training step brings.
        config: see :class:`~training.config.QuantizerConfig`.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self,
        dim: int,
        semantic_dim: int,
        num_codebooks: int,
        codebook_size: int,
        frames_per_step: int,
        config: QuantizerConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.semantic_dim = semantic_dim
        self.frames_per_step = frames_per_step
        # as many frames as an even use of the codebook would bring, times the threshold
        self.dead_count = config.dead_threshold * frames_per_step / codebook_size
        # (Q, N, D): what the quantizers of speechtok.nn.quantizer hold
        self.register_buffer("codebooks", torch.zeros(num_codebooks, codebook_size, dim))
        # moving averages of the frames a step that choose a vector, (Q, N), and of their sum, (Q, N, D)
        self.register_buffer("counts", torch.zeros(num_codebooks, codebook_size))
        self.register_buffer("sums", torch.zeros(num_codebooks, codebook_size, dim))
        self._started = False

    @property
    def started(self) -> bool:
        """Whether the codebooks have been set, by :meth:`start`, :meth:`continue_from`, or loading."""
        self._started = self._started or bool(self.counts.any())  # asked once: a GPU answers when all else is done
        return self._started

    @torch.no_grad()
    def continue_from(self, codebooks: Tensor) -> None:
        """Set the codebooks to ``(Q, N, D)``, of a tokenizer trained before."""
        self.codebooks.copy_(codebooks)
        self.counts.fill_(self.frames_per_step / codebooks.shape[1])
        self.sums.copy_(self.codebooks * self.counts[..., None])

    @torch.no_grad()
    def start(self, latent: Tensor, seed: int) -> None:
        """Set every codebook by k-means on ``latent``, ``(B, T, D)``, and what the codebooks before leave of it."""
        # not above: it takes as long to import as torch, and a training that goes on does not need it
        from vector_quantize_pytorch.vector_quantize_pytorch import kmeans

        residual = latent.flatten(0, 1)
        size = self.codebooks.shape[1]
        with torch.random.fork_rng([latent.device] if latent.device.type == "cuda" else []):
            torch.manual_seed(seed)
            for stage, (codebook, counts) in enumerate(zip(self.codebooks, self.counts, strict=True)):
                frames = self._looked_at(residual, stage)
                means, bins = kmeans(frames[None], size)
                counts.copy_(bins[0] * (self.frames_per_step / len(residual)))
                width = frames.shape[1]
                code = nearest(frames, means[0])
                codebook[:, :width] = means[0]
                # the rest of a vector is the mean of the frames that choose it
                rest = torch.zeros_like(codebook).index_add_(0, code, residual)[:, width:]
                codebook[:, width:] = rest / torch.bincount(code, minlength=size).clamp_min(1)[:, None]
                residual = self._left(residual, codebook[code], stage)
        self.sums.copy_(self.codebooks * self.counts[..., None])

    def prefixes(self, seed: int, step: int, rows: int) -> Tensor:
        """Codebooks that each of ``rows`` rows of the batch of ``step`` uses, int64 ``(B,)`` on the CPU."""
        stages = len(self.codebooks)
        rng = np.random.default_rng((seed, step, 1))
        shorter = rng.random(rows) < self.config.dropout
        return torch.from_numpy(np.where(shorter, rng.integers(1, stages + 1, rows), stages))

    def replacements(self, seed: int, step: int, used: Tensor, frames: int) -> Tensor:
        """Frames of the batch of ``step`` that dead vectors shall become, int64 ``(Q, N)`` on the CPU.

        Args:
            seed: what they are drawn by, beside the step.
            step: of the training.
            used: codebooks that each row of the batch uses, ``(B,)``; a stage gets frames of rows that use it.
            frames: of a row. Frame ``t`` of row ``b`` is number ``b * frames + t``; -1: no row uses the stage.
        """
        rng = np.random.default_rng((seed, step, 2))
        stages, size = self.counts.shape
        drawn = np.full((stages, size), -1)
        for stage in range(stages):
            rows = (used > stage).nonzero()[:, 0].numpy()
            if len(rows):
                drawn[stage] = rng.choice(rows, size) * frames + rng.integers(0, frames, size)
        return torch.from_numpy(drawn)

    def forward(self, latent: Tensor, used: Tensor) -> Quantized:
        """Quantize ``latent``, ``(B, T, D)``, its row ``b`` with the first ``used[b]`` codebooks."""
        residual = latent
        codes = torch.empty(len(latent), len(self.codebooks), latent.shape[1], dtype=torch.int64, device=latent.device)
        quantized, distance = torch.zeros_like(latent), latent.new_zeros(())
        for stage, codebook in enumerate(self.codebooks):
            uses = (used > stage)[:, None]
            frames = self._looked_at(residual.detach().flatten(0, 1), stage)
            code = nearest(frames, codebook[:, : frames.shape[1]]).view(len(latent), -1)
            chosen = codebook[code]
            distance = distance + (self._looked_at(residual - chosen, stage).square().sum(2) * uses).sum()
            residual = self._left(residual, chosen, stage)
            quantized = quantized + chosen * uses[..., None]
            codes[:, stage] = torch.where(uses, code, -1)
        straight = latent + (quantized - latent).detach()
        if split := self.semantic_dim:
            semantic = straight[..., :split]
            straight = torch.cat([semantic.detach(), straight[..., split:]], -1)
        else:
            semantic = latent + (self.codebooks[0][codes[:, 0]] - latent).detach()
        return Quantized(straight, semantic, distance / (latent.numel() * len(self.codebooks)), codes)

    @torch.no_grad()
    def update(self, latent: Tensor, codes: Tensor, drawn: Tensor, world: World) -> Tensor:
        """Move the codebooks towards the frames of a step, and dead vectors onto frames of it.

        Nothing in here waits for a GPU, so that it can be recorded.

        Args:
            latent: ``(B, T, D)``, the rows of the batch that this process holds.
            codes: what :meth:`forward` gave for them, ``(B, Q, T)``.
            drawn: of :meth:`replacements`, for the whole batch.
            world: the processes that hold the other rows.

        Returns:
            How often the whole batch chose each vector, ``(Q, N)``.
        """
        stages, size, dim = self.codebooks.shape
        residuals = [latent]
        for stage in range(stages - 1):
            chosen = F.embedding(codes[:, stage].clamp_min(0), self.codebooks[stage])
            residuals.append(self._left(residuals[-1], chosen, stage))
        counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)
        ones = latent.new_ones(latent[..., 0].numel())
        for stage, residual in enumerate(residuals):
            # frames without a code, -1, count for a vector too many, which is then left off
            code = codes[:, stage].flatten() % (size + 1)
            counts[stage] = counts.new_zeros(size + 1).index_add_(0, code, ones)[:size]
            sums[stage] = sums.new_zeros(size + 1, dim).index_add_(0, code, residual.flatten(0, 1))[:size]
        world.add_([counts, sums])
        self.counts.lerp_(counts, 1 - self.config.decay)
        self.sums.lerp_(sums, 1 - self.config.decay)
        self.codebooks.copy_(self.sums / self.counts.clamp_min(1e-5)[..., None])
        self._replace_dead(torch.stack(residuals).flatten(1, 2), drawn, world)
        return counts

    def _looked_at(self, residual: Tensor, stage: int) -> Tensor:
        """What the stage compares of ``(…, D)``; the semantic numbers that later stages meet are 0."""
        return residual[..., : self.semantic_dim] if self.semantic_dim and not stage else residual

    def _left(self, residual: Tensor, chosen: Tensor, stage: int) -> Tensor:
        """What the stage leaves for the next, ``(…, D)``."""
        left = residual - chosen
        if self.semantic_dim and not stage:
            left = F.pad(left[..., self.semantic_dim :], (self.semantic_dim, 0))
        return left

    def _replace_dead(self, residuals: Tensor, drawn: Tensor, world: World) -> None:
        """``residuals``: of the frames that this process holds, ``(Q, M, D)``."""
        dead = (self.counts < self.dead_count) & (drawn >= 0)
        if not dead.is_cuda and not dead.any():
            return
        frames = residuals.shape[1]
        drawn = drawn - world.rank * frames
        here = (drawn >= 0) & (drawn < frames)
        places = drawn.clamp(0, frames - 1)[..., None].expand(-1, -1, residuals.shape[2])
        found = residuals.gather(1, places) * here[..., None]
        world.add_([found])
        self.codebooks.copy_(torch.where(dead[..., None], found, self.codebooks))
        self.counts.masked_fill_(dead, self.dead_count)
        self.sums.copy_(torch.where(dead[..., None], found * self.dead_count, self.sums))


def nearest(frames: Tensor, codebook: Tensor) -> Tensor:
    """Which vector of ``(N, D)`` is nearest to each of ``(M, D)``, int64 ``(M,)``."""
    # |f - c|² = |f|² - 2 (f·c - |c|² / 2), and |f|² is the same for every c
    return first_largest(torch.addmm(codebook.square().sum(1) / -2, frames, codebook.T))
