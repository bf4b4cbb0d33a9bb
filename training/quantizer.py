"""Training of the residual vector quantizer: codebooks are moving averages of the frames that choose their vectors."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechtok.nn.exact import weight_levels
from speechtok.nn.quantizer import first_argmax, hold_codes
from training.distributed import World


class Quantized(NamedTuple):
    """Result of :class:`TrainingQuantizer`.

    Attributes:
        latent: quantized latent, ``(B, T, D)``, with straight-through gradient. Separate semantic dimensions get no
            gradient from here, so that reconstruction does not change them.
        semantic: what codebook 0 represents, with straight-through gradient: the semantic dimensions if they are
            separate, otherwise all.
        commitment: mean squared distance between the input of the stages and the vectors they choose.
        codes: ``(B, Q, T)``; -1 where a row does not use the codebook.
    """

    latent: Tensor
    semantic: Tensor
    commitment: Tensor
    codes: Tensor


class TrainingQuantizer(nn.Module):
    """Residual vector quantizer whose codebooks follow the encoder.

    Codebooks start with k-means, are updated by exponential moving averages, and replace unused vectors by frames of
    the batch. The straight-through gradient passes the sum of all stages once. Each row of a batch may use its own
    prefix of the codebooks. :meth:`forward` changes no state; :meth:`update` is called once per step.

    Args:
        dim: width ``D`` of the latent.
        semantic_dim: number of dimensions, the first ones, that only stage 0 encodes, while the other stages encode the
            rest; 0 if all stages encode all (see :class:`speechtok.nn.quantizer.ResidualQuantizer`).
        num_codebooks: stages ``Q``.
        codebook_size: vectors ``N`` of each stage.
        frames_per_step: frames in the batch of a training step.
        decay: decay of the moving averages.
        dead_threshold: usage below which a vector is replaced, as a share of even usage.
        dropout: share of the rows that use a random prefix of the codebooks.
        hold: as in :class:`speechtok.nn.quantizer.ResidualQuantizer`.
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
        decay: float = 0.98,
        dead_threshold: float = 0.1,
        dropout: float = 0.5,
        hold: int = 0,
    ) -> None:
        super().__init__()
        self.semantic_dim, self.frames_per_step = semantic_dim, frames_per_step
        self.decay, self.dropout, self.hold = decay, dropout, hold
        # frames per step and vector with even usage, times the threshold
        self.dead_count = dead_threshold * frames_per_step / codebook_size
        # (Q, N, D), as in speechtok.nn.quantizer
        self.register_buffer("codebooks", torch.zeros(num_codebooks, codebook_size, dim))
        # moving averages of the number of frames per step that choose a vector, (Q, N), and of their sum, (Q, N, D)
        self.register_buffer("counts", torch.zeros(num_codebooks, codebook_size))
        self.register_buffer("sums", torch.zeros(num_codebooks, codebook_size, dim))
        self._started = False

    @property
    def started(self) -> bool:
        """Whether the codebooks have been set, by :meth:`start`, :meth:`load_codebooks` or a checkpoint."""
        self._started = self._started or bool(self.counts.any())  # cached: asking a GPU waits for all its work
        return self._started

    @torch.no_grad()
    def load_codebooks(self, codebooks: Tensor) -> None:
        """Set the codebooks to those of a trained tokenizer, ``(Q, N, D)``."""
        self.codebooks.copy_(codebooks)
        self.counts.fill_(self.frames_per_step / codebooks.shape[1])
        self.sums.copy_(self.codebooks * self.counts[..., None])

    @torch.no_grad()
    def start(self, latent: Tensor, seed: int) -> None:
        """Set each codebook by k-means on the residual of ``latent``, ``(B, T, D)``, after the stages before."""
        # imported here: it takes as long as importing torch, and a resumed training does not need it
        from vector_quantize_pytorch.vector_quantize_pytorch import kmeans

        residual = latent.flatten(0, 1)
        size = self.codebooks.shape[1]
        with torch.random.fork_rng([latent.device] if latent.device.type == "cuda" else []):
            torch.manual_seed(seed)
            for stage, (codebook, counts) in enumerate(zip(self.codebooks, self.counts, strict=True)):
                frames = self._stage_input(residual, stage)
                means, bins = kmeans(frames[None], size)
                counts.copy_(bins[0] * (self.frames_per_step / len(residual)))
                width = frames.shape[1]
                code = nearest(frames, means[0])
                codebook[:, :width] = means[0]
                # the dimensions that the stage ignores become the mean of the frames that choose the vector
                rest = torch.zeros_like(codebook).index_add_(0, code, residual)[:, width:]
                codebook[:, width:] = rest / torch.bincount(code, minlength=size).clamp_min(1)[:, None]
                residual = self._residual(residual, codebook[code], stage)
        self.sums.copy_(self.codebooks * self.counts[..., None])

    def draw_prefixes(self, seed: int, step: int, rows: int) -> Tensor:
        """Draw the number of codebooks that each row of a batch uses, int64 ``(rows,)`` on the CPU."""
        stages = len(self.codebooks)
        rng = np.random.default_rng((seed, step, 1))
        shorter = rng.random(rows) < self.dropout
        return torch.from_numpy(np.where(shorter, rng.integers(1, stages + 1, rows), stages))

    def draw_replacements(self, seed: int, step: int, used: Tensor, frames: int) -> Tensor:
        """Draw the frames that replace dead vectors, one for each vector.

        Args:
            seed: seed of the training.
            step: number of the step.
            used: number of codebooks that each row uses, ``(B,)``; frames are drawn from rows that use the stage.
            frames: frames in a row.

        Returns:
            Frame numbers ``b * frames + t``, int64 ``(Q, N)`` on the CPU; -1 where no row uses the stage.
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
        """Quantize ``latent``, ``(B, T, D)``; row ``b`` uses the first ``used[b]`` codebooks."""
        residual = latent
        codes = torch.empty(len(latent), len(self.codebooks), latent.shape[1], dtype=torch.int64, device=latent.device)
        quantized, distance = torch.zeros_like(latent), latent.new_zeros(())
        for stage, codebook in enumerate(self.codebooks):
            uses = (used > stage)[:, None]
            frames = self._stage_input(residual.detach().flatten(0, 1), stage)
            code = self._choose(frames.view(*latent.shape[:2], -1), codebook[:, : frames.shape[1]], stage)
            chosen = codebook[code]
            distance = distance + (self._stage_input(residual - chosen, stage).square().sum(2) * uses).sum()
            residual = self._residual(residual, chosen, stage)
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
    def update(self, latent: Tensor, codes: Tensor, replacements: Tensor, world: World) -> Tensor:
        """Update the moving averages by the frames of a step, and replace dead vectors.

        Does not wait for a GPU, so that a CUDA graph can record it.

        Args:
            latent: ``(B, T, D)``, the rows of this process.
            codes: result of :meth:`forward` for these rows, ``(B, Q, T)``.
            replacements: result of :meth:`draw_replacements` for the whole batch.
            world: the processes that hold the other rows.

        Returns:
            How often the whole batch chose each vector, ``(Q, N)``.
        """
        stages, size, dim = self.codebooks.shape
        residuals = [latent]
        for stage in range(stages - 1):
            chosen = F.embedding(codes[:, stage].clamp_min(0), self.codebooks[stage])
            residuals.append(self._residual(residuals[-1], chosen, stage))
        counts, sums = torch.zeros_like(self.counts), torch.zeros_like(self.sums)
        ones = latent.new_ones(latent[..., 0].numel())
        for stage, residual in enumerate(residuals):
            # frames without a code (-1) count for an extra vector, which is cut off
            code = codes[:, stage].flatten() % (size + 1)
            counts[stage] = counts.new_zeros(size + 1).index_add_(0, code, ones)[:size]
            sums[stage] = sums.new_zeros(size + 1, dim).index_add_(0, code, residual.flatten(0, 1))[:size]
        world.all_reduce_([counts, sums])
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.codebooks.copy_(self.sums / self.counts.clamp_min(1e-5)[..., None])
        self._replace_dead(torch.stack(residuals).flatten(1, 2), replacements, world)
        return counts

    def _stage_input(self, residual: Tensor, stage: int) -> Tensor:
        """The dimensions of ``(…, D)`` that a stage compares. In later stages, semantic dimensions are 0."""
        return residual[..., : self.semantic_dim] if self.semantic_dim and not stage else residual

    def _choose(self, frames: Tensor, vectors: Tensor, stage: int) -> Tensor:
        """Codes of ``(B, T, D)``: the nearest of the vectors, ``(N, D)``, or in stage 0 the one that is held."""
        scores = negative_distances(frames.flatten(0, 1), vectors)
        code = first_argmax(scores).view(frames.shape[:2])
        if not stage and self.hold:
            past = frames.new_zeros(len(frames), 2)
            scale = weight_levels(vectors, one_scale=True)[1][0]  # the scores are half of those of levels, and unscaled
            threshold = self.hold * scale.square() / 2
            code, _ = hold_codes(scores.view(*frames.shape[:2], -1), code, threshold, past)
        return code

    def _residual(self, residual: Tensor, chosen: Tensor, stage: int) -> Tensor:
        """Input of the next stage, ``(…, D)``."""
        rest = residual - chosen
        if self.semantic_dim and not stage:
            rest = F.pad(rest[..., self.semantic_dim :], (self.semantic_dim, 0))
        return rest

    def _replace_dead(self, residuals: Tensor, replacements: Tensor, world: World) -> None:
        """``residuals``: input of each stage for the ``M`` frames of this process, ``(Q, M, D)``."""
        dead = (self.counts < self.dead_count) & (replacements >= 0)
        if not dead.is_cuda and not dead.any():
            return
        frames = residuals.shape[1]
        local = replacements - world.rank * frames
        owned = (local >= 0) & (local < frames)
        index = local.clamp(0, frames - 1)[..., None].expand(-1, -1, residuals.shape[2])
        found = residuals.gather(1, index) * owned[..., None]
        world.all_reduce_([found])
        self.codebooks.copy_(torch.where(dead[..., None], found, self.codebooks))
        self.counts.masked_fill_(dead, self.dead_count)
        self.sums.copy_(torch.where(dead[..., None], found * self.dead_count, self.sums))


def nearest(frames: Tensor, codebook: Tensor) -> Tensor:
    """Index of the codebook vector, of ``(N, D)``, nearest to each of ``(M, D)``, int64 ``(M,)``."""
    return first_argmax(negative_distances(frames, codebook))


def negative_distances(frames: Tensor, codebook: Tensor) -> Tensor:
    """Minus half the squared distance of ``(M, D)`` from ``(N, D)``, ``(M, N)``, but for a number of each frame."""
    # |f - c|² = |f|² - 2 (f·c - |c|² / 2), and |f|² is the same for every c
    return torch.addmm(codebook.square().sum(1) / -2, frames, codebook.T)
