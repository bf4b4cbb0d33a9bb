"""Train a tokenizer: ``python training/train.py --config training/configs/default.yaml data=DIR``.

Interrupt it at any moment and run the same command again: it goes on from its last checkpoint, and reaches the weights
that it would have reached uninterrupted. On several GPUs or machines, ``torchrun --nproc-per-node=8 training/train.py
…`` shares the same batches between them, and reaches the same weights up to the rounding of sums.
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

if __package__ is None or __package__ == "":  # run as a script: find the packages beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

import speechtok
from speechtok.loaders import build
from speechtok.errors import AudioError, CheckpointError, ConfigError, SpeechtokError
from speechtok.seanet import SEANetTokenizer
from speechtok.convnext import ConvNeXtTokenizer
from training.adversary import Adversary
from training.autocast import autocast
from training.autoencoder import Network, network_of
from training.checkpoints import CHECKPOINT_NAME, load_checkpoint, make_folder, save_checkpoint
from training.config import TrainingConfig, load_config
from training.cuda_graph import CUDAGraphed
from training.dataset import Corpus, find_utterances, pack
from training.distillation import Distillation, representation_loss
from training.distributed import World, device_of, join
from training.logs import Log
from training.losses import ReconstructionLoss
from training.muon import Muon
from training.phones import Phone, read_alignments
from training.prefetch import ahead
from training.quantizer import TrainingQuantizer
from training.signals import stop_requests
from training.teachers import FeatureStore, load_teacher
from training.validation import validate

START_FRAMES = 10
"""Frames for each vector of a codebook, on which k-means starts the codebooks, and heads are fitted."""

MAX_SKIPPED_IN_A_ROW = 50
"""Steps without a finite loss and gradient after which a training will not recover."""


class Batch(NamedTuple):
    """What a step learns from: of all rows, or of those that a process computes.

    Attributes:
        waveform: ``(B, S)``.
        features: of the teacher, in the middle of each frame, ``(B, T, F)``.
        labels: the teacher's phone logits, ``(B, T, C)``.
    """

    waveform: Tensor
    features: Tensor | None = None
    labels: Tensor | None = None

    def parts(self, count: int) -> list["Batch"]:
        """``count`` batches of as many rows each."""
        columns = [[None] * count if x is None else x.chunk(count) for x in self]
        return [Batch(*row) for row in zip(*columns, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """The same on ``device``."""
        return Batch(*(None if x is None else x.to(device, non_blocking=True) for x in self))


class Trainer:
    """One training: what it learns, how it steps, and how it is saved.

    Args:
        config: the training.
        train: utterances to learn from.
        world: the processes that share every batch.
        features: what a teacher makes of the utterances.
        labels: the phone logits that it gives them.

    Raises:
        ConfigError: this machine has no such device, or the batch cannot be shared evenly.
        SpeechtokError: there is no such teacher to hear decoded audio.
    """

    def __init__(
        self,
        config: TrainingConfig,
        train: Corpus,
        world: World | None = None,
        features: FeatureStore | None = None,
        labels: FeatureStore | None = None,
    ) -> None:
        self.config, self.train, self.world = config, train, world or World()
        self.features, self.labels = features, labels
        shares = config.accumulate * self.world.size
        if config.batch_size % shares:
            raise ConfigError(
                f"batch_size is {config.batch_size}; expected a multiple of {shares}: accumulate ({config.accumulate}) "
                f"times the processes ({self.world.size})"
            )
        self.device = device_of(config.device, self.world)
        if config.bfloat16 and self.device.type == "cuda" and not torch.cuda.is_bf16_supported():
            raise ConfigError(f"bfloat16 is true, which {self.device} cannot compute; pass bfloat16=false")
        torch.manual_seed(config.seed)
        model = config.model
        self.tokenizer = build(model).to(self.device)  # the exported one: averaged weights
        live = build(model).to(self.device)
        live.load_state_dict(self.tokenizer.state_dict())
        self.network = network_of(live, config.only)
        self.quantizer = TrainingQuantizer(
            model.latent_dim,
            model.semantic_dim,
            model.num_codebooks,
            model.codebook_size,
            config.batch_size * config.crop_frames,
            config.quantizer,
        ).to(self.device)
        self.loss = ReconstructionLoss(model.sample_rate).to(self.device)
        dims = (0 if store is None else store.dim for store in (features, labels))
        self.distillation = Distillation(model.semantic_dim or model.latent_dim, *dims).to(self.device)
        self.before = build(model).encoder.to(self.device) if config.only == "encoder" else None  # as it was
        self.listener = (
            load_teacher(config.distillation.teacher).to(self.device) if config.distillation.teacher else None
        )
        self.adversary = (
            Adversary(config.adversary, model.sample_rate, config.bfloat16).to(self.device)
            if config.adversary.weight
            else None
        )
        self.weights = {
            "commitment": config.quantizer.commitment,
            "waveform": config.loss.waveform,
            "spectrum": config.loss.spectrum,
            "mel": config.loss.mel,
            "loudness": config.loss.loudness,
            "intelligibility": config.loss.intelligibility,
            "features_over_time": config.distillation.features_over_time,
            "features_by_frame": config.distillation.features_by_frame,
            "labels": config.distillation.label_weight,
            "representation": config.distillation.representation,
            "acoustic": config.distillation.acoustic,
            "adversarial": config.adversary.weight,
            "seen": config.adversary.features,
        }
        self.optimizers = make_optimizers(self.network, self.distillation, config)
        # what changes from step to step is written to where the recorded steps of a GPU read it
        self._rates = [torch.zeros((), device=self.device) for _ in self.optimizers]
        self._newness = torch.zeros((), device=self.device)
        self._exported = [*self.tokenizer.parameters(), *self.tokenizer.buffers()]
        self.step = 0
        self.skipped_steps = 0
        self.skipped_in_a_row = 0
        self._loss = self.loss.forward
        if config.compile:
            self.network.compile_parts()
            self._loss = torch.compile(self._loss)
        alone = self.world.size == 1 and self.adversary is None and not config.only
        recorded = config.compile and alone and self.device.type == "cuda"
        self._learn = CUDAGraphed(self._gradients) if recorded else self._gradients
        self._move = CUDAGraphed(self._update) if recorded else self._update

    def continue_from(self, tokenizer: ConvNeXtTokenizer | SEANetTokenizer) -> None:
        """Start from the weights and codebooks of a tokenizer trained before.

        Raises:
            ConfigError: it is of another config.
        """
        if tokenizer.config != self.config.model:
            raise ConfigError(
                f"start_from is {self.config.start_from}, a tokenizer of another config ({tokenizer.config}) than "
                f"model ({self.config.model}); expected equal ones: change model, or start from random weights"
            )
        self.tokenizer.load_state_dict(tokenizer.state_dict())
        if self.config.only == "decoder":  # what is exported is rounded: the decoder shall learn for just those codes
            self.tokenizer.half().float()
        self.network.continue_from(self.tokenizer)
        self.quantizer.continue_from(self.tokenizer.quantizer.codebooks)
        if self.before is not None:
            self.before.load_state_dict(self.tokenizer.encoder.state_dict())

    def batch(self, step: int) -> Batch:
        """The rows of the batch of a step that this process computes."""
        c = self.config
        frames, samples = c.crop_frames, c.crop_frames * c.model.hop_length
        gains = c.gain_low_db, c.gain_high_db
        rows = self.world.rows(c.batch_size)
        crops = self.train.draw(c.seed, step, c.batch_size, samples, gains, c.speed, rows)
        delay = c.distillation.delay
        heard = [
            None
            if store is None
            else torch.stack([store.crop(x.utterance, x.start, frames, x.samples / frames, delay) for x in crops])
            for store in (self.features, self.labels)
        ]
        return Batch(self.train.read(crops, samples), *heard)

    def run_step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimizer step on this process's rows of the batch.

        A step whose loss or gradient is not finite changes nothing, and is counted.

        Returns:
            The losses of the whole batch by name, ``"gradient_norm"``, and if the quantizer has started ``"counts"``:
            how often the batch chose each vector, ``(Q, N)``.

        Raises:
            SpeechtokError: too many steps in a row were not finite.
        """
        config = self.config
        batch = batch.to(self.device)
        if self.step >= config.quantizer.start_step and not self.quantizer.started:
            self._start_quantizer()
        if self.step == 0 and config.start_from and self.quantizer.started:
            self._start_distillation()
        used = self.quantizer.prefixes(config.seed, self.step, config.batch_size)
        drawn = self.quantizer.replacements(config.seed, self.step, used, config.crop_frames)
        mine = used[self.world.rows(config.batch_size)]
        # what is recorded has the quantizer in it
        learn, move = (self._learn, self._move) if self.quantizer.started else (self._gradients, self._update)
        terms, latent, codes = learn(*batch, mine.to(self.device))
        # the same sums, and so the same decision, in every process
        if torch.isfinite(torch.stack(list(terms.values()))).all():
            self.skipped_in_a_row = 0
            factor = learning_rate_factor(self.step, config)
            for (optimizer, peak), rate in zip(self.optimizers, self._rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate.fill_(peak * factor) if rate.is_cuda else peak * factor
            self._newness.fill_(1 - min(config.optimizer.ema_decay, (1 + self.step) / (10 + self.step)))
            counts = move(latent, codes, drawn.to(self.device))
            torch.autograd.graph.increment_version(self._exported)  # which a replay does not
            if counts is not None:
                terms = terms | {"counts": counts}
            if self.adversary is not None and "discriminators" in terms:
                self.adversary.move(factor)
        else:
            self._skip(terms)
        if not isinstance(self._learn, CUDAGraphed) or not self._learn.ready:  # a recording writes over its gradients
            for optimizer, _ in self.optimizers:
                optimizer.zero_grad()
            self.distillation.zero_grad()
            if self.adversary is not None:
                self.adversary.zero_grad()
        self.step += 1
        return terms

    def _gradients(
        self, waveform: Tensor, features: Tensor | None, labels: Tensor | None, used: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Set the gradients of all weights.

        Args:
            waveform: see :class:`Batch`.
            features: see :class:`Batch`.
            labels: see :class:`Batch`.
            used: codebooks that each of the rows uses, ``(B,)``.

        Returns:
            The losses of the whole batch by name, and the latent and the codes of the rows.
        """
        config, batch = self.config, Batch(waveform, features, labels)
        loudness = waveform.abs().mean() / self.world.size
        self.world.add_([loudness])
        share = 1 / (config.accumulate * self.world.size)
        terms: dict[str, Tensor] = {}
        latents, codes = [], []
        for part, prefixes in zip(batch.parts(config.accumulate), used.chunk(config.accumulate), strict=True):
            values, latent, code = self._losses(part, prefixes, loudness, share)
            weighed = [self.weights[name] * value for name, value in values.items() if name in self.weights]
            (torch.stack(weighed).sum() * share).backward()
            for name, value in values.items():
                terms[name] = terms.get(name, 0) + value.detach() * share
            latents.append(latent)
            codes.append(code)
        parameters = [p for p in self._parameters() if p.grad is not None]
        self.world.add_([*terms.values(), *(p.grad for p in parameters)])
        terms["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, config.optimizer.clip_norm)
        if self.adversary is not None and "discriminators" in terms:
            terms["discriminators_gradient_norm"] = self.adversary.clip_gradients(self.world)
        return terms, torch.cat(latents), torch.cat(codes)

    def _update(self, latent: Tensor, codes: Tensor, drawn: Tensor) -> Tensor | None:
        """Move weights and codebooks; ``drawn``: what dead vectors become. Returns how often each was chosen."""
        for optimizer, _ in self.optimizers:
            optimizer.step()
        counts = None
        if self.quantizer.started and self.config.only != "decoder":
            counts = self.quantizer.update(latent, codes, drawn, self.world)
        self._average_weights()
        return counts

    def _losses(
        self, batch: Batch, used: Tensor, loudness: Tensor, share: float
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Losses by name on a part of the batch, ``share`` of it; its latent ``(B, T, D)``, and codes ``(B, Q, T)``."""
        waveform = batch.waveform
        values: dict[str, Tensor] = {}
        if self.config.only == "decoder":
            latent = quantized = self._fixed_latent(waveform, used)
            codes = torch.empty(0)
        else:
            latent = self._encode(waveform)
            quantized, semantic, codes = latent, latent[..., : self.config.model.semantic_dim or None], torch.empty(0)
            if self.quantizer.started:
                quantized, semantic, values["commitment"], codes = self.quantizer(latent, used)
            values |= self.distillation(semantic, batch.features, batch.labels)
        if self.before is not None:
            values["acoustic"] = self._acoustic_distance(latent, waveform, self.before)
            return values, latent.detach(), codes
        decoded = self._decode(quantized)
        values |= self._loss(decoded, waveform)
        # it is relative to the loudness of its part; that of the batch counts
        values["waveform"] = values["waveform"] * ((waveform.abs().mean() + 1e-3) / (loudness + 1e-3))
        if self.listener is not None:
            rate = self.config.model.sample_rate
            values["representation"] = representation_loss(self.listener, decoded, waveform, rate)
        if self.adversary is not None and self.step >= self.config.adversary.start_step:
            values["discriminators"] = self.adversary.learn(decoded, waveform, share)
            values |= self.adversary.judge(decoded, waveform)
        return values, latent.detach(), codes

    @torch.no_grad()
    def _fixed_latent(self, waveform: Tensor, used: Tensor) -> Tensor:
        """What the exported tokenizer decodes of ``(B, S)``, ``(B, T, D)``: its codes stay as they are."""
        tok = self.tokenizer
        codes = tok._encode(waveform, [waveform.shape[1]] * len(waveform), tok.num_codebooks)
        return torch.cat(
            [tok.quantizer.decode(row[None, : int(count)]) for row, count in zip(codes, used, strict=True)]
        )

    def _acoustic_distance(self, latent: Tensor, waveform: Tensor, before: nn.Module) -> Tensor:
        """Mean squared distance of the acoustic numbers of ``(B, T, D)`` from those of the encoder ``before``."""
        with torch.no_grad():
            then, _ = before(waveform, before.initial_state(len(waveform)))
        return (latent - then)[..., self.config.model.semantic_dim :].square().mean()

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.distillation.parameters()]

    def _skip(self, terms: dict[str, Tensor]) -> None:
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
            values = {name: float(value) for name, value in terms.items()}
            raise SpeechtokError(
                f"{MAX_SKIPPED_IN_A_ROW} steps in a row, up to step {self.step}, had no finite loss and gradient "
                f"({values}); lower the rates of optimizer, and run again: training goes on from the last checkpoint"
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, and the exported tokenizer.

        No random state: what is drawn in a step is a function of the seed and the step.
        """
        return {
            "config": self.config.to_dict(),
            "step": self.step,
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "tokenizer": self.tokenizer.state_dict(),
            "network": self.network.state_dict(),
            "quantizer": self.quantizer.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "distillation": self.distillation.state_dict(),
            "before": self.before and self.before.state_dict(),
            "adversary": self.adversary and [self.adversary.state_dict(), self.adversary.optimizer.state_dict()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.step = state["step"]
        self.skipped_steps, self.skipped_in_a_row = state["skipped_steps"], state["skipped_in_a_row"]
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.network.load_state_dict(state["network"])
        self.quantizer.load_state_dict(state["quantizer"])
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            capturable = optimizer.param_groups[0].get("capturable")
            optimizer.load_state_dict(saved)
            if capturable is not None:  # a matter of this machine, not of the one that saved
                optimizer.param_groups[0]["capturable"] = capturable
        self.distillation.load_state_dict(state["distillation"])
        if self.before is not None:
            self.before.load_state_dict(state["before"])
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"][0])
            self.adversary.optimizer.load_state_dict(state["adversary"][1])

    def _encode(self, waveform: Tensor) -> Tensor:
        with autocast(self.device, self.config.bfloat16):
            return self.network.encode(waveform).float()

    def _decode(self, latent: Tensor) -> Tensor:
        with autocast(self.device, self.config.bfloat16):
            return self.network.decode(latent).float()

    @torch.no_grad()
    def _start_quantizer(self) -> None:
        latents = [self._encode_at_start(batch.waveform) for batch in self._batches_to_start_with()]
        self.quantizer.start(torch.cat(latents), self.config.seed)
        self.world.copy_first_(list(self.quantizer.buffers()))  # sums may round differently on each GPU

    @torch.no_grad()
    def _start_distillation(self) -> None:
        """Heads that tell what codebook 0 already says: random ones would disturb the encoder."""
        if not list(self.distillation.parameters()):
            return
        said, heard = [], []
        for batch in self._batches_to_start_with():
            latent = self._encode_at_start(batch.waveform)
            used = torch.ones(len(latent), dtype=torch.int64, device=self.device)
            said.append(self.quantizer(latent, used).semantic)
            heard.append([None if x is None else self.world.gather(x) for x in (batch.features, batch.labels)])
        features, labels = (None if column[0] is None else torch.cat(column) for column in zip(*heard, strict=True))
        self.distillation.start(torch.cat(said), features, labels)
        self.world.copy_first_(list(self.distillation.parameters()))

    def _batches_to_start_with(self) -> Iterator[Batch]:
        config = self.config
        count = max(1, round(START_FRAMES * config.model.codebook_size / (config.batch_size * config.crop_frames)))
        # numbered far past any training step, so that the length of the training does not change them
        return (self.batch(2**40 + i).to(self.device) for i in range(count))

    @torch.no_grad()
    def _encode_at_start(self, waveform: Tensor) -> Tensor:
        with torch.compiler.set_stance("force_eager"):  # once in a training: not worth a compilation
            parts = waveform.chunk(self.config.accumulate)
            return self.world.gather(torch.cat([self._encode(part) for part in parts]))

    @torch.no_grad()
    def _average_weights(self) -> None:
        averaged, live = zip(*self.network.beside(self.tokenizer), strict=True)
        new = torch._foreach_sub(live, averaged)
        torch._foreach_mul_(new, self._newness)
        torch._foreach_add_(averaged, new)
        if self.quantizer.started and self.config.only != "decoder":
            self.tokenizer.quantizer.codebooks.copy_(self.quantizer.codebooks)


def make_optimizers(
    network: Network, distillation: nn.Module, config: TrainingConfig
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices inside the network, if it has any, and AdamW for what is left, each with its peak rate."""
    o, matrices = config.optimizer, network.matrices()
    inside = {id(parameter) for parameter in matrices}
    rest = [p for p in (*distillation.parameters(), *network.parameters()) if id(p) not in inside]
    recordable = rest[0].is_cuda
    adamw = torch.optim.AdamW(
        rest, lr=o.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True, capturable=recordable
    )
    if not matrices:
        return [(adamw, o.adamw_lr)]
    muon = Muon(matrices, o.muon_lr)
    return [(muon, o.muon_lr), (adamw, o.adamw_lr)]


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Share of the peak rates at ``step``: warm-up, constant, linear decay."""
    o = config.optimizer
    left = (config.steps - step) / (o.decay_fraction * config.steps)
    return min(1.0, (step + 1) / max(1, o.warmup_steps), left)


class Data(NamedTuple):
    """What is trained on, and what is validated on.

    Attributes:
        train: utterances to learn from.
        dev: utterances to validate on.
        alignments: phones of those of ``dev`` that have any.
        features: what a teacher makes of ``train``.
        labels: the phone logits that it gives.
    """

    train: Corpus
    dev: Corpus
    alignments: dict[int, tuple[Phone, ...]]
    features: FeatureStore | None
    labels: FeatureStore | None


def read_data(config: TrainingConfig, world: World) -> Data:
    """The audio to train on and to validate on, packed by the first process of every machine.

    Raises:
        MissingFileError: ``data`` does not exist.
        AudioError: it lists no audio that can be read, or less than a batch.
        OutputError: the folder ``out`` cannot be written.
        CheckpointError: the teacher's features are of other audio.
    """
    out = Path(config.out)
    corpora = []
    lists = find_utterances(config.data)
    for files in lists:
        if world.local_rank:
            world.wait()
        corpora.append(pack(files, config.model.sample_rate, out / "audio"))
        if not world.local_rank:
            world.wait()
    train, dev = corpora
    if world.writes:
        for corpus in corpora:
            if corpus.skipped:
                total = len(corpus) + len(corpus.skipped)
                print(f"skipped {len(corpus.skipped)} of {total} files, not readable, such as {corpus.skipped[0]}")
    seconds, batch_seconds = train.size / config.model.sample_rate, config.batch_size * config.crop_seconds
    if seconds < batch_seconds:
        raise AudioError(
            f"data is {config.data!r}, with {seconds:.1f} s of audio to train on; expected at least a batch, "
            f"{batch_seconds:.1f} s: add audio, or lower batch_size or crop_seconds"
        )
    stores = [
        FeatureStore(Path(folder), config.data, lists[0], train, config.model.sample_rate) if folder else None
        for folder in (config.distillation.features, config.distillation.labels)
    ]
    labels = stores[1]
    if labels is not None and not labels.description.phones:
        raise CheckpointError(
            f"distillation.labels is {config.distillation.labels!r}, features of layer {labels.description.layer!r}; "
            "expected phone logits: python -m training.teachers --layer phones"
        )
    data = Path(config.data)
    manifests = (
        [data] if data.is_file() else [path for path in (data / "train.jsonl", data / "dev.jsonl") if path.is_file()]
    )
    phones = {file: rows for manifest in manifests for file, rows in read_alignments(manifest).items()}
    read = [file for file in lists[1] if str(file) not in set(dev.skipped)]
    alignments = {index: phones[file] for index, file in enumerate(read) if file in phones}
    return Data(train, dev, alignments, *stores)


def check_start(trainer: Trainer) -> None:
    """See that a half that goes on learning does so beside the half that its start still has.

    Raises:
        CheckpointError: the start has changed.
    """
    config = trainer.config
    if not config.only or not Path(config.start_from).exists():
        return
    start, now = speechtok.load(config.start_from), trainer.tokenizer.state_dict()
    if config.only == "decoder":
        start.half().float()
    if trainer.before is not None:
        now |= {f"encoder.{name}": x for name, x in trainer.before.state_dict().items()}
    stays = {
        name: x
        for name, x in start.state_dict().items()
        if not name.startswith("decoder." if config.only == "decoder" else "quantizer.")
    }
    if any(not torch.equal(now[name].cpu(), x) for name, x in stays.items()):
        raise CheckpointError(
            f"{config.out} trains the {config.only} of what {config.start_from} was, and no longer is; expected the "
            "tokenizer that it started from: choose another out=…"
        )


def train(config: TrainingConfig) -> Path:
    """Run a training from its start or last checkpoint to its end. Returns the folder of the exported tokenizer.

    Raises:
        SpeechtokError: the config, the data or the checkpoint cannot be used, or the training does not recover.
        KeyboardInterrupt: it was asked to stop, and has saved where it was.
    """
    with join() as world:
        return _train(config, world)


def _train(config: TrainingConfig, world: World) -> Path:
    out = Path(config.out)
    make_folder(out)
    checkpoint = out / CHECKPOINT_NAME
    goes_on = world.from_first(checkpoint.exists())
    start = None if goes_on or not config.start_from else speechtok.load(config.start_from)
    data = read_data(config, world)
    trainer = Trainer(config, data.train, world, data.features, data.labels)
    if goes_on:
        load_checkpoint(trainer, checkpoint)
        check_start(trainer)
        if trainer.step >= config.steps and world.writes:
            print(
                f"{out} is at step {trainer.step} of {config.steps} already; choose another out=… for another training"
            )
    elif start is not None:
        trainer.continue_from(start)
    pinned = trainer.device.type == "cuda"
    upcoming = ahead(trainer.batch, trainer.step, config.steps, config.workers, pinned)
    with Log(out, trainer) as log, stop_requests() as requested, contextlib.closing(upcoming):
        for batch in upcoming:
            log.step(trainer.run_step(batch))
            stop, last = world.any(requested.is_set()), trainer.step == config.steps
            if world.writes and (last or stop or trainer.step % config.checkpoint_every == 0):
                try:
                    save_checkpoint(trainer, checkpoint)
                except CheckpointError as error:
                    if last or stop:
                        raise
                    log.failed_checkpoint(error)
            if world.writes and (last or trainer.step % config.validate_every == 0):
                count = config.validation_utterances
                log.validation(
                    validate(
                        trainer.tokenizer, trainer.loss, data.dev, data.alignments, count, config.distillation.delay
                    )
                )
            if stop and not last:
                log.write(f"interrupted; step {trainer.step} is saved to {checkpoint}")
                raise KeyboardInterrupt
    if world.writes:
        # rounded to float16: half the size on disk, and no more different from the trained weights than noise
        trainer.tokenizer.half().float().save(out / "tokenizer")
    world.wait()
    return out / "tokenizer"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file; see training/configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="name=value", help="changes to the config, data=DIR first of all"
    )
    arguments = parser.parse_args()
    try:
        directory = train(load_config(arguments.config, arguments.overrides))
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except torch.OutOfMemoryError as error:
        print(f"error: {str(error).splitlines()[0]} Pass a larger accumulate, such as accumulate=2", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"wrote {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
