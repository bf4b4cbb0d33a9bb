"""The trainer of a tokenizer: one optimizer step, and the state that a checkpoint saves."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from speechtok.config import ConvNeXtConfig
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.errors import ConfigError
from speechtok.loaders import build
from speechtok.nn.convolution import CausalConvNeXtBlock
from speechtok.nn.noise import PERIOD
from speechtok.seanet import SEANetTokenizer
from training.adversary import Adversary
from training.augmentation import Disturber
from training.autocast import autocast
from training.autoencoder import Autoencoder, make_autoencoder
from training.config import OLD_STATE_NAMES, TrainingConfig, rename_old_fields
from training.cuda_graph import CUDAGraphed
from training.dataset import Corpus
from training.distillation import Distillation, consistency_loss, representation_loss
from training.distributed import World, init_device
from training.energy_distance import EnergyDistance
from training.losses import ReconstructionLoss
from training.optimizers import Optimizers, learning_rate_factor, muon_and_adamw, restore_optimizer
from training.quantizer import TrainingQuantizer
from training.skipped import SkippedSteps, all_finite
from training.teachers import FeatureStore, load_teacher
from training.validation import perplexity

INIT_FRAMES = 10
"""Frames per codebook vector on which codebooks and distillation heads are initialized."""

# fields of the config that may change when a training is resumed, beside those that end in _every: how long and how
# fast to train, on which machine, and what does not affect the weights
_FREE_FIELDS = {
    "steps", "optimizer", "data", "out", "device", "compile", "workers", "start_from", "accumulate",
    "validation_utterances",
}  # fmt: skip


class Batch(NamedTuple):
    """Input of a step: the whole batch, or the rows of one process.

    Attributes:
        waveform: ``(B, S)``.
        features: features of the teacher at the centre of each frame, ``(B, T, F)``.
        labels: phone logits of the teacher, ``(B, T, C)``.
        noise_positions: where the decoder's noise begins in each of two decodings, in patches, ``(B, 2)``.
        disturbed: disturbed view of ``waveform``, ``(B, S)``.
    """

    waveform: Tensor
    features: Tensor | None = None
    labels: Tensor | None = None
    noise_positions: Tensor | None = None
    disturbed: Tensor | None = None

    def chunk(self, count: int) -> list["Batch"]:
        """Split into ``count`` batches with the same number of rows."""
        columns = [[None] * count if x is None else x.chunk(count) for x in self]
        return [Batch(*row) for row in zip(*columns, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """Copy to ``device``."""
        return Batch(*(None if x is None else x.to(device, non_blocking=True) for x in self))


class Trainer:
    """Trains a tokenizer; plugs into :mod:`training.harness`.

    Attributes:
        tokenizer: the exported tokenizer: moving averages of the trained weights, and the codebooks.
        autoencoder: encoder and decoder as the optimizers update them.
        quantizer: codebooks as they are trained.

    Args:
        config: the training.
        corpus: utterances to train on.
        world: the processes that share every batch.
        features: features of a teacher for the utterances.
        labels: phone logits of a teacher for the utterances.
        noise: noise for disturbed views.

    Raises:
        ConfigError: the batch cannot be shared evenly, or the device cannot compute in bfloat16.
        SpeechtokError: the device or the perceptual teacher does not exist.
    """

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        world: World | None = None,
        features: FeatureStore | None = None,
        labels: FeatureStore | None = None,
        noise: Corpus | None = None,
    ) -> None:
        self.config, self.corpus, self.world = config, corpus, world or World()
        self.features, self.labels = features, labels
        disturbs = config.augmentation.active
        self.disturber = Disturber(config.augmentation, corpus, noise, config.model.sample_rate) if disturbs else None
        shares = config.accumulate * self.world.size
        if config.batch_size % shares:
            raise ConfigError(
                f"batch_size is {config.batch_size}; expected a multiple of {shares}: accumulate ({config.accumulate}) "
                f"times the number of processes ({self.world.size})"
            )
        self.device = init_device(config.device, self.world)
        if config.bfloat16 and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError(f"bfloat16 is true, but {self.device} cannot compute in it; pass bfloat16=false")
        torch.manual_seed(config.seed)
        model = config.model
        self.tokenizer = build(model).to(self.device)
        trained = build(model).to(self.device)
        trained.load_state_dict(self.tokenizer.state_dict())
        self.autoencoder = make_autoencoder(trained, config.train_only)
        self.quantizer = TrainingQuantizer(
            model.latent_dim,
            model.semantic_dim,
            model.num_codebooks,
            model.codebook_size,
            config.batch_size * config.crop_frames,
            config.quantizer.decay,
            config.quantizer.dead_threshold,
            config.quantizer.dropout,
            model.hold if isinstance(model, ConvNeXtConfig) else 0,
        ).to(self.device)
        self.reconstruction = ReconstructionLoss(model.sample_rate, config.loss.phase_limit).to(self.device)
        self.energy_distance = EnergyDistance(model.sample_rate).to(self.device) if config.two_decodings else None
        dims = (0 if store is None else store.dim for store in (features, labels))
        self.distillation = Distillation(model.semantic_dim or model.latent_dim, *dims).to(self.device)
        self.frozen_encoder = build(model).encoder.to(self.device) if config.train_only == "encoder" else None
        self.perceptual_teacher = (
            load_teacher(config.distillation.perceptual_teacher).to(self.device)
            if config.distillation.perceptual_teacher
            else None
        )
        self.adversary = make_adversary(config).to(self.device) if config.adversary.weight else None
        self.loss_weights = {
            "commitment": config.quantizer.commitment,
            "waveform": config.loss.waveform,
            "spectrum": config.loss.spectrum,
            "mel": config.loss.mel,
            "loudness": config.loss.loudness,
            "intelligibility": config.loss.intelligibility,
            "energy_distance": config.loss.energy_distance,
            "band_energy": config.loss.band_energy,
            "features_over_time": config.distillation.features_over_time,
            "features_by_frame": config.distillation.features_by_frame,
            "labels": config.distillation.label_weight,
            "representation": config.distillation.representation,
            "acoustic": config.distillation.acoustic,
            "consistency": config.distillation.consistency,
            "adversarial": config.adversary.weight,
            "feature_matching": config.adversary.feature_matching,
        }
        self.optimizers = make_optimizers(self.autoencoder, self.distillation, config)
        self.step, self.skipped = 0, SkippedSteps()
        # share of the new weights in the averages; a tensor, as a CUDA graph reads it
        self._average_share = torch.zeros((), device=self.device)
        self._exported = [*self.tokenizer.parameters(), *self.tokenizer.buffers()]
        self._reconstruction_losses = self.reconstruction.forward
        if config.compile:
            self.autoencoder.compile_parts()
            self._reconstruction_losses = torch.compile(self._reconstruction_losses)
        one_graph = self.world.size == 1 and self.adversary is None and not config.train_only
        graphed = config.compile and one_graph and self.device.type == "cuda"
        self._graphed_gradients = CUDAGraphed(self._compute_gradients) if graphed else self._compute_gradients
        self._graphed_update = CUDAGraphed(self._update) if graphed else self._update

    def grow(self, tokenizer: ConvNeXtTokenizer | SEANetTokenizer) -> ConvNeXtTokenizer | SEANetTokenizer:
        """In a stage, give the trained half what the config has and it lacks.

        A decoder may get noise, an encoder longer filters, more blocks at the frame rate, and another ``hold``. The
        larger tokenizer starts where the smaller one is: noise at -60 dB, filters that are 0 further back, and blocks
        that add 0.
        """
        only, model = self.config.train_only, self.config.model
        if not only or not isinstance(tokenizer, ConvNeXtTokenizer) or not isinstance(model, ConvNeXtConfig):
            return tokenizer
        config = tokenizer.config
        if only == "decoder" and not config.noise_bands:
            config = dataclasses.replace(config, noise_bands=model.noise_bands)
        if only == "encoder":
            sizes = {
                name: max(getattr(config.encoder, name), getattr(model.encoder, name))
                for name in ("kernel_size", "frame_depth")
            }
            config = dataclasses.replace(config, hold=model.hold, encoder=dataclasses.replace(config.encoder, **sizes))
        if config == tokenizer.config:
            return tokenizer
        grown = ConvNeXtTokenizer(config)
        for block in list(grown.encoder.frame_blocks.blocks)[tokenizer.config.encoder.frame_depth :]:
            contract = cast(CausalConvNeXtBlock, block).contract
            nn.init.zeros_(contract.weight)
            nn.init.zeros_(contract.bias)
        state = grown.state_dict()
        for name, weight in tokenizer.state_dict().items():
            state[name][: len(weight)].copy_(weight)
            if name.endswith("conv.weight"):
                state[name][len(weight) :].zero_()
        return grown

    def load_tokenizer(self, tokenizer: ConvNeXtTokenizer | SEANetTokenizer) -> None:
        """Start from the weights and codebooks of a trained tokenizer.

        Raises:
            ConfigError: its config differs from the one of this training.
        """
        model = self.config.model
        tokenizer = self.grow(tokenizer)
        if tokenizer.config != model:
            raise ConfigError(
                f"start_from is {self.config.start_from}, whose config is {tokenizer.config}, but model is "
                f"{model}; expected equal configs: change model, or pass start_from=''"
            )
        self.tokenizer.load_state_dict(tokenizer.state_dict())
        if self.config.train_only == "decoder":  # the exported encoder is rounded to float16: train on its codes
            self.tokenizer.round_weights()
        self.autoencoder.load_weights(self.tokenizer)
        self.quantizer.load_codebooks(self.tokenizer.quantizer.codebooks)
        if self.frozen_encoder is not None:
            self.frozen_encoder.load_state_dict(self.tokenizer.encoder.state_dict())

    def batch(self, step: int) -> Batch:
        """The rows of a step's batch that this process computes."""
        c = self.config
        frames, samples = c.crop_frames, c.crop_frames * c.model.hop_length
        gains = c.gain_low_db, c.gain_high_db
        rows = self.world.rows(c.batch_size)
        crops = self.corpus.draw(c.seed, step, c.batch_size, samples, gains, c.speed, rows)
        delay = c.distillation.delay
        targets = [
            None
            if store is None
            else torch.stack([store.crop(x.utterance, x.start, frames, x.samples / frames, delay) for x in crops])
            for store in (self.features, self.labels)
        ]
        positions = None
        if self.energy_distance is not None:
            drawn = np.random.default_rng((c.seed, step, 4)).integers(0, PERIOD, (c.batch_size, 2))
            positions = torch.from_numpy(drawn[rows])
        waveform = self.corpus.read(crops, samples)
        disturbed = None if self.disturber is None else self.disturber(waveform, c.seed, step, rows)
        return Batch(waveform, *targets, positions, disturbed)

    def run_step(self, batch: Batch) -> dict[str, Tensor]:
        """Run one optimizer step on this process's rows of the batch.

        A step whose loss or gradient is not finite is skipped: it is counted, and changes no weight.

        Returns:
            Losses of the whole batch by name, ``"gradient_norm"``, and once the quantizer has started ``"counts"``: how
            often the batch chose each codebook vector, ``(Q, N)``.

        Raises:
            SpeechtokError: too many steps in a row were skipped.
        """
        config = self.config
        batch = batch.to(self.device)
        if self.step >= config.quantizer.start_step and not self.quantizer.started:
            self._init_quantizer()
        if self.step == 0 and config.start_from and self.quantizer.started:
            self._init_distillation()
        used = self.quantizer.draw_prefixes(config.seed, self.step, config.batch_size)
        replacements = self.quantizer.draw_replacements(config.seed, self.step, used, config.crop_frames)
        own_used = used[self.world.rows(config.batch_size)]
        gradients, update = self._compute_gradients, self._update
        if self.quantizer.started:  # the steps before it differ, so they are not in the graph
            gradients, update = self._graphed_gradients, self._graphed_update
        terms, latent, codes = gradients(*batch, own_used.to(self.device))
        if all_finite(terms):  # the terms are sums over all processes, so all of them decide alike
            self.skipped.reset()
            o = config.optimizer
            factor = learning_rate_factor(self.step, config.steps, o.warmup_steps, o.decay_fraction)
            self.optimizers.set_rates(factor)
            self._average_share.fill_(1 - min(o.ema_decay, (1 + self.step) / (10 + self.step)))
            counts = update(latent, codes, replacements.to(self.device))
            torch.autograd.graph.increment_version(self._exported)  # replaying a CUDA graph does not do it
            if counts is not None:
                terms = terms | {"counts": counts}
            if self.adversary is not None and "discriminators" in terms:
                self.adversary.update(factor)
        else:
            self.skipped.add(self.step, terms)
        if not isinstance(self._graphed_gradients, CUDAGraphed) or not self._graphed_gradients.ready:
            # a CUDA graph overwrites its gradients instead
            self.optimizers.zero_grad()
            self.distillation.zero_grad()
            if self.adversary is not None:
                self.adversary.zero_grad()
        self.step += 1
        return terms

    def scalars(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Scalars of a step for the log, from what :meth:`run_step` returned."""
        scalars = {f"train/{name}": float(value) for name, value in terms.items() if name != "counts"}
        scalars["train/learning_rate"] = self.optimizers.learning_rate
        if "counts" in terms:
            scalars |= {f"batch_perplexity/{q}": value for q, value in enumerate(perplexity(terms["counts"]))}
        return scalars

    def fixed_values(self, state: dict[str, Any]) -> dict[str, Any]:
        """The fields of a state's config that must stay the same when it is resumed."""
        config = rename_old_fields(state["config"])
        return {
            field.name: config.get(field.name, field.metadata.get("absent"))  # defaults may be left out
            for field in dataclasses.fields(self.config)
            if field.name not in _FREE_FIELDS and not field.name.endswith("_every")
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that later steps depend on, and the exported tokenizer.

        There is no random state: what a step draws depends on the seed and the step only.
        """
        return {
            "config": self.config.to_dict(),
            "step": self.step,
            "skipped_steps": self.skipped.total,
            "skipped_in_a_row": self.skipped.in_a_row,
            "tokenizer": self.tokenizer.named_tensors(),
            "autoencoder": self.autoencoder.state_dict(),
            "quantizer": self.quantizer.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "distillation": self.distillation.state_dict(),
            "frozen_encoder": self.frozen_encoder and self.frozen_encoder.state_dict(),
            "adversary": self.adversary and [self.adversary.state_dict(), self.adversary.optimizer.state_dict()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned; former names of entries are accepted."""
        state = {OLD_STATE_NAMES.get(name, name): value for name, value in state.items()}
        self.step = state["step"]
        self.skipped = SkippedSteps(state["skipped_steps"], state["skipped_in_a_row"])
        names = zip(self.tokenizer.state_dict(), self.tokenizer.named_tensors(), strict=True)
        self.tokenizer.load_state_dict({name: state["tokenizer"][name_in_file] for name, name_in_file in names})
        self.autoencoder.load_state_dict(state["autoencoder"])
        self.quantizer.load_state_dict(state["quantizer"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.distillation.load_state_dict(state["distillation"])
        if self.frozen_encoder is not None:
            self.frozen_encoder.load_state_dict(state["frozen_encoder"])
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"][0])
            restore_optimizer(self.adversary.optimizer, state["adversary"][1])

    def _compute_gradients(
        self,
        waveform: Tensor,
        features: Tensor | None,
        labels: Tensor | None,
        noise_positions: Tensor | None,
        disturbed: Tensor | None,
        used: Tensor,
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Set the gradients of all weights.

        Args:
            waveform: see :class:`Batch`.
            features: see :class:`Batch`.
            labels: see :class:`Batch`.
            noise_positions: see :class:`Batch`.
            disturbed: see :class:`Batch`.
            used: number of codebooks that each row uses, ``(B,)``.

        Returns:
            Losses of the whole batch by name; latent ``(B, T, D)`` and codes ``(B, Q, T)`` of the rows.
        """
        config, batch = self.config, Batch(waveform, features, labels, noise_positions, disturbed)
        loudness = waveform.abs().mean() / self.world.size
        self.world.all_reduce_([loudness])
        share = 1 / (config.accumulate * self.world.size)
        terms: dict[str, Tensor] = {}
        latents, codes = [], []
        for part, prefixes in zip(batch.chunk(config.accumulate), used.chunk(config.accumulate), strict=True):
            values, latent, code = self._losses(part, prefixes, loudness, share)
            weighted = [self.loss_weights[name] * value for name, value in values.items() if name != "discriminators"]
            (torch.stack(weighted).sum() * share).backward()
            for name, value in values.items():
                terms[name] = terms.get(name, 0) + value.detach() * share
            latents.append(latent)
            codes.append(code)
        trained = (*self.autoencoder.parameters(), *self.distillation.parameters())
        parameters = [p for p in trained if p.grad is not None]
        self.world.all_reduce_([*terms.values(), *(p.grad for p in parameters)])
        terms["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, config.optimizer.clip_norm)
        if self.adversary is not None and "discriminators" in terms:
            terms["discriminators_gradient_norm"] = self.adversary.clip_gradients(self.world)
        return terms, torch.cat(latents), torch.cat(codes)

    def _update(self, latent: Tensor, codes: Tensor, replacements: Tensor) -> Tensor | None:
        """Update weights, codebooks and averages. Returns how often each codebook vector was chosen, ``(Q, N)``."""
        self.optimizers.step()
        counts = None
        if self.quantizer.started and self.config.train_only != "decoder":
            counts = self.quantizer.update(latent, codes, replacements, self.world)
        self._average_weights()
        return counts

    def _losses(
        self, batch: Batch, used: Tensor, loudness: Tensor, share: float
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Losses of a part of the batch, ``share`` of it, by name; its latent ``(B, T, D)`` and codes ``(B, Q, T)``."""
        config, waveform = self.config, batch.waveform
        losses: dict[str, Tensor] = {}
        if config.train_only == "decoder":
            latent = quantized = self._fixed_latent(waveform, used)
            codes = torch.empty(0)
        else:
            views = 1 if batch.disturbed is None else 2
            heard = waveform if batch.disturbed is None else torch.cat([waveform, batch.disturbed])
            features, labels = (None if x is None else x.repeat(views, 1, 1) for x in (batch.features, batch.labels))
            latent = self._encode(heard)
            quantized, semantic, codes = latent, latent[..., : config.model.semantic_dim or None], torch.empty(0)
            if self.quantizer.started:
                quantized, semantic, losses["commitment"], codes = self.quantizer(latent, used.repeat(views))
            losses |= self.distillation(semantic, features, labels)
        if self.frozen_encoder is not None:
            losses["acoustic"] = self._acoustic_distance(latent, heard, self.frozen_encoder)
            if views == 2 and self.quantizer.started:
                losses["consistency"] = self._consistency(latent, codes)
            return losses, latent[: len(waveform)].detach(), codes[: len(waveform)]
        decodings = self._decode(quantized, batch.noise_positions)
        decoded = decodings[0]
        losses |= self._reconstruction_losses(decoded, waveform)
        if self.energy_distance is not None:
            losses |= self.energy_distance(decodings, waveform)
        # the loss is relative to the loudness of its part of the batch; make it relative to that of the whole batch
        losses["waveform"] = losses["waveform"] * ((waveform.abs().mean() + 1e-3) / (loudness + 1e-3))
        if self.perceptual_teacher is not None:
            rate = config.model.sample_rate
            losses["representation"] = representation_loss(self.perceptual_teacher, decoded, waveform, rate)
        if self.adversary is not None and self.step >= config.adversary.start_step:
            losses["discriminators"] = self.adversary.train_discriminators(decoded, waveform, share)
            losses |= self.adversary.losses(decoded, waveform)
        return losses, latent.detach(), codes

    @torch.no_grad()
    def _fixed_latent(self, waveform: Tensor, used: Tensor) -> Tensor:
        """Quantized latent ``(B, T, D)`` of ``(B, S)`` by the exported tokenizer, whose codes do not change."""
        tok = self.tokenizer
        codes = tok._encode(waveform, [waveform.shape[1]] * len(waveform), tok.num_codebooks)
        return torch.cat(
            [tok.quantizer.decode(row[None, : int(count)]) for row, count in zip(codes, used, strict=True)]
        )

    def _acoustic_distance(self, latent: Tensor, waveform: Tensor, frozen_encoder: nn.Module) -> Tensor:
        """Mean squared distance between the acoustic dimensions of ``(B, T, D)`` and those of the frozen encoder."""
        with torch.no_grad():
            target, _ = frozen_encoder(waveform, frozen_encoder.initial_state(len(waveform)))
        return (latent - target)[..., self.config.model.semantic_dim :].square().mean()

    def _consistency(self, latent: Tensor, codes: Tensor) -> Tensor:
        """Consistency loss of latents ``(2 B, T, D)`` and codes ``(2 B, Q, T)``: clean views, then disturbed ones."""
        dim = self.config.model.semantic_dim
        clean, disturbed = latent[..., :dim].chunk(2)
        expected, codebook = codes[: len(clean), 0], self.quantizer.codebooks[0, :, :dim]
        scale = 2 * (clean.detach() - codebook[expected]).square().mean()  # twice the variance within a code
        return consistency_loss(disturbed, expected, codebook, scale)

    def _encode(self, waveform: Tensor) -> Tensor:
        with autocast(self.device, self.config.bfloat16):
            return self.autoencoder.encode(waveform).float()

    def _decode(self, latent: Tensor, noise_positions: Tensor | None = None) -> Tensor:
        with autocast(self.device, self.config.bfloat16):
            return self.autoencoder.decode(latent, noise_positions).float()

    @torch.no_grad()
    def _init_quantizer(self) -> None:
        latents = [self._encode_eagerly(batch.waveform) for batch in self._init_batches()]
        self.quantizer.start(torch.cat(latents), self.config.seed)
        self.world.broadcast_(list(self.quantizer.buffers()))  # sums may round differently on each GPU

    @torch.no_grad()
    def _init_distillation(self) -> None:
        """Fit the heads to the current codebook 0, since gradients through random heads would disturb the encoder."""
        if not list(self.distillation.parameters()):
            return
        semantic, targets = [], []
        for batch in self._init_batches():
            latent = self._encode_eagerly(batch.waveform)
            used = torch.ones(len(latent), dtype=torch.int64, device=self.device)
            semantic.append(self.quantizer(latent, used).semantic)
            targets.append([None if x is None else self.world.all_gather(x) for x in (batch.features, batch.labels)])
        features, labels = (None if x[0] is None else torch.cat(x) for x in zip(*targets, strict=True))
        self.distillation.start(torch.cat(semantic), features, labels)
        self.world.broadcast_(list(self.distillation.parameters()))

    def _init_batches(self) -> Iterator[Batch]:
        config = self.config
        count = max(1, round(INIT_FRAMES * config.model.codebook_size / (config.batch_size * config.crop_frames)))
        # numbered far beyond any training step, so that the length of the training does not change them
        return (self.batch(2**40 + i).to(self.device) for i in range(count))

    @torch.no_grad()
    def _encode_eagerly(self, waveform: Tensor) -> Tensor:
        with torch.compiler.set_stance("force_eager"):  # runs once in a training: not worth a compilation
            parts = waveform.chunk(self.config.accumulate)
            return self.world.all_gather(torch.cat([self._encode(part) for part in parts]))

    @torch.no_grad()
    def _average_weights(self) -> None:
        averaged, trained = zip(*self.autoencoder.paired_parameters(self.tokenizer), strict=True)
        difference = torch._foreach_sub(trained, averaged)
        torch._foreach_mul_(difference, self._average_share)
        torch._foreach_add_(averaged, difference)
        if self.quantizer.started and self.config.train_only != "decoder":
            self.tokenizer.quantizer.codebooks.copy_(self.quantizer.codebooks)


def make_adversary(config: TrainingConfig) -> Adversary:
    """Discriminators of a training."""
    a = config.adversary
    channels = a.period_channels, a.spectrum_channels
    return Adversary(config.model.sample_rate, *channels, a.learning_rate, config.bfloat16)


def make_optimizers(autoencoder: Autoencoder, distillation: nn.Module, config: TrainingConfig) -> Optimizers:
    """Muon for the matrices inside the autoencoder, if there are any, and AdamW for all other weights."""
    matrices = autoencoder.muon_parameters()
    inside = {id(parameter) for parameter in matrices}
    others = [p for p in (*distillation.parameters(), *autoencoder.parameters()) if id(p) not in inside]
    return muon_and_adamw(matrices, others, config.optimizer.muon_lr, config.optimizer.adamw_lr)
