"""Train a tokenizer: ``python training/train.py --config training/configs/default.yaml data=DIR``.

Interrupt it at any moment and run the same command again: it goes on from its last checkpoint, and reaches the weights
that it would have reached uninterrupted.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __package__ is None or __package__ == "":  # run as a script: find the packages beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import speechtok
from speechtok.errors import CheckpointError, ConfigError, SpeechtokError
from speechtok.files import replacing
from speechtok.plot import spectrogram_figure
from speechtok.tokenizer import SpeechTokenizer
from training.config import TrainingConfig, load_config
from training.data import Corpus, find_utterances, pack
from training.losses import ReconstructionLoss
from training.quantizer import TrainingQuantizer

CHECKPOINT_NAME = "checkpoint.pt"
START_SECONDS = 200.0
"""Audio on which k-means starts the codebooks."""


class Trainer:
    """One training: what it learns, how it steps, and how it is saved.

    Args:
        config: the training.
        train: utterances to learn from.
        dev: utterances to validate on.
    """

    def __init__(self, config: TrainingConfig, train: Corpus, dev: Corpus) -> None:
        torch.manual_seed(config.seed)
        self.config, self.train, self.dev = config, train, dev
        self.device = torch.device(config.device)
        model = config.model
        self.tokenizer = SpeechTokenizer(model).to(self.device)  # the exported one: averaged weights
        live = SpeechTokenizer(model).to(self.device)
        live.load_state_dict(self.tokenizer.state_dict())
        self.network = nn.ModuleDict({"encoder": live.encoder, "decoder": live.decoder}).train().requires_grad_(True)
        self.quantizer = TrainingQuantizer(
            model.latent_dim,
            model.num_codebooks,
            model.codebook_size,
            config.batch_size * config.crop_frames,
            config.quantizer,
        ).to(self.device)
        self.loss = ReconstructionLoss(model.sample_rate).to(self.device)
        self.optimizers = make_optimizers(self.network, config)
        self.step = 0
        self._encode, self._decode, self._loss = self._encode_crops, self._decode_crops, self.loss.forward
        if config.compile:
            self._encode, self._decode = torch.compile(self._encode), torch.compile(self._decode)
            self._loss = torch.compile(self._loss)

    def continue_from(self, tokenizer: SpeechTokenizer) -> None:
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
        self.network["encoder"].load_state_dict(tokenizer.encoder.state_dict())
        self.network["decoder"].load_state_dict(tokenizer.decoder.state_dict())
        self.quantizer.continue_from(self.tokenizer.quantizer.codebooks)

    def run_step(self, waveform: Tensor) -> dict[str, Tensor]:
        """One optimizer step on ``(B, S)``. Returns the losses, and the codes as ``"codes"``, ``(B, Q, T)``."""
        config = self.config
        waveform = waveform.to(self.device)
        if self.step == config.quantizer.start_step and not self.quantizer.started:
            self._start_quantizer()
        latent = self._encode(waveform)
        terms = {}
        if self.quantizer.started:
            latent, terms["commitment"], codes = self.quantizer(latent)
        terms |= self._loss(self._decode(latent), waveform)
        weights = {
            "commitment": config.quantizer.commitment,
            "waveform": config.loss.waveform,
            "spectrum": config.loss.spectrum,
            "mel": config.loss.mel,
        }
        total = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        if not torch.isfinite(total):
            values = {name: float(value.detach()) for name, value in terms.items()}
            raise SpeechtokError(
                f"the loss of step {self.step} is not finite ({values}); lower the rates of optimizer, "
                "and run again: training goes on from the last checkpoint"
            )
        total.backward()
        terms["gradient_norm"] = nn.utils.clip_grad_norm_(self.network.parameters(), config.optimizer.clip_norm)
        for optimizer, peak in self.optimizers:
            optimizer.param_groups[0]["lr"] = peak * learning_rate_factor(self.step, config)
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self._average_weights()
        terms = {name: value.detach() for name, value in terms.items()}
        if self.quantizer.started:
            terms["codes"] = codes
        return terms

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], list[tuple[Tensor, Tensor]]]:
        """Losses and codebook perplexities of the exported tokenizer, and pairs of original and decoded audio."""
        count = min(self.config.validation_utterances, len(self.dev))
        spread = [i * len(self.dev) // count for i in range(count)]
        sums: dict[str, float] = {}
        pairs, grids = [], []
        for index in spread:
            original = self.dev[index].to(self.device)
            tokens = self.tokenizer.encode(original, self.config.model.sample_rate)
            decoded = self.tokenizer.decode(tokens)[0]
            for name, value in self.loss(decoded[None], original[None]).items():
                sums[name] = sums.get(name, 0.0) + float(value) / count
            pairs.append((original.cpu(), decoded.cpu()))
            grids.append(tokens.codes[0])
        for stage, value in enumerate(perplexity(torch.cat(grids, 1), self.config.model.codebook_size)):
            sums[f"perplexity_{stage}"] = value
        return sums, pairs

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, and the exported tokenizer."""
        return {
            "config": self.config.to_dict(),
            "step": self.step,
            "tokenizer": self.tokenizer.state_dict(),
            "network": self.network.state_dict(),
            "quantizer": self.quantizer.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.step = state["step"]
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.network.load_state_dict(state["network"])
        self.quantizer.load_state_dict(state["quantizer"])
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def crops(self, step: int) -> Tensor:
        """The batch of a step, ``(B, S)``."""
        c = self.config
        samples = c.crop_frames * c.model.hop_length
        return self.train.crops(c.seed, step, c.batch_size, samples, (c.gain_low_db, c.gain_high_db))

    def _encode_crops(self, waveform: Tensor) -> Tensor:
        encoder = self.network["encoder"]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            return encoder(waveform, encoder.initial_state(len(waveform)))[0].float()

    def _decode_crops(self, latent: Tensor) -> Tensor:
        decoder = self.network["decoder"]
        latent = nn.functional.pad(latent, (0, 0, 0, 1))  # the decoder is late by a frame; silence follows the last
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            waveform, _ = decoder(latent, decoder.initial_state(len(latent)))
        return waveform[:, self.config.model.hop_length :].float()

    def _start_quantizer(self) -> None:
        batches = max(1, round(START_SECONDS / (self.config.batch_size * self.config.crop_seconds)))
        with torch.no_grad():
            # numbered far past any training step, so that the length of the training does not change them
            latents = [self._encode_crops(self.crops(2**40 + i).to(self.device)) for i in range(batches)]
            self.quantizer.start(torch.cat(latents))

    @torch.no_grad()
    def _average_weights(self) -> None:
        decay = min(self.config.optimizer.ema_decay, (1 + self.step) / (10 + self.step))
        averaged = [*self.tokenizer.encoder.parameters(), *self.tokenizer.decoder.parameters()]
        torch._foreach_lerp_(averaged, list(self.network.parameters()), 1 - decay)
        if self.quantizer.started:
            self.tokenizer.quantizer.codebooks.copy_(self.quantizer.codebooks)


def make_optimizers(network: nn.Module, config: TrainingConfig) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices inside the network, AdamW for what is left, each with its peak rate."""
    edges = ("embed.", "project.", "head.")  # matrices between signal or latent and the network's width
    matrices, rest = [], []
    for name, parameter in network.named_parameters():
        inside = parameter.ndim == 2 and "conv." not in name and not any(edge in name for edge in edges)
        (matrices if inside else rest).append(parameter)
    o = config.optimizer
    muon = torch.optim.Muon(matrices, lr=o.muon_lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest, lr=o.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return [(muon, o.muon_lr), (adamw, o.adamw_lr)]


def learning_rate_factor(step: int, config: TrainingConfig) -> float:
    """Share of the peak rates at ``step``: warm-up, constant, linear decay."""
    o = config.optimizer
    left = (config.steps - step) / (o.decay_fraction * config.steps)
    return min(1.0, (step + 1) / max(1, o.warmup_steps), left)


def perplexity(codes: Tensor, codebook_size: int) -> list[float]:
    """``exp`` of the entropy of each codebook's use; ``codes``: ``(Q, T)``, values below 0 not counted."""
    values = []
    for row in codes:
        share = torch.bincount(row[row >= 0], minlength=codebook_size).double()
        share = share / share.sum().clamp_min(1)
        values.append(float(torch.exp(torch.special.entr(share).sum())))
    return values


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write the trainer's state; a reader meets the old checkpoint or the new one, never half of one."""
    with replacing(path) as temporary:
        torch.save(trainer.state_dict(), temporary)


def load_checkpoint(trainer: Trainer, path: Path) -> None:
    """Go on from ``path``.

    Raises:
        CheckpointError: it is damaged, or of a training with another config.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to start again") from error
    # how long to train may change, and so may what does not touch the weights
    free = {"steps", "data", "out", "device", "compile", "start_from"} | {
        k for k in state["config"] if k.endswith("_every")
    }
    mine = trainer.config.to_dict()
    changed = [name for name in mine if name not in free and mine[name] != state["config"].get(name)]
    if changed:
        name = changed[0]
        raise CheckpointError(
            f"{path} was trained with {name} {state['config'].get(name)!r}, and the config says {mine[name]!r}; "
            "choose another out=… for another training"
        )
    trainer.load_state_dict(state)


def train(config: TrainingConfig) -> Path:
    """Run a training from its start or last checkpoint to its end. Returns the folder of the exported tokenizer."""
    out = Path(config.out)
    train_files, dev_files = find_utterances(config.data)
    corpora = [pack(files, config.model.sample_rate, out / "audio") for files in (train_files, dev_files)]
    for corpus in corpora:
        if corpus.skipped:
            print(f"skipped {len(corpus.skipped)} files that could not be read, such as {corpus.skipped[0]}")
    trainer = Trainer(config, *corpora)
    checkpoint = out / CHECKPOINT_NAME
    if checkpoint.exists():
        load_checkpoint(trainer, checkpoint)
        print(f"going on from step {trainer.step}")
    elif config.start_from:
        trainer.continue_from(speechtok.load(config.start_from))
    seconds = config.batch_size * config.crop_frames / config.model.frame_rate
    writer = SummaryWriter(str(out / "tensorboard"), purge_step=trainer.step)
    bar = tqdm(total=config.steps, initial=trainer.step, desc="training", unit="step", dynamic_ncols=True)
    try:
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(trainer.crops, trainer.step)
            since, since_step = time.perf_counter(), trainer.step
            while trainer.step < config.steps:
                batch = upcoming.result()
                upcoming = pool.submit(trainer.crops, trainer.step + 1)
                terms = trainer.run_step(batch)
                bar.update()
                step = trainer.step
                if step % config.log_every == 0 or step == config.steps:
                    codes = terms.pop("codes", None)
                    values = {name: float(value) for name, value in terms.items()}
                    values["seconds_per_second"] = seconds * (step - since_step) / (time.perf_counter() - since)
                    values["learning_rate"] = trainer.optimizers[0][0].param_groups[0]["lr"]
                    for name, value in values.items():
                        writer.add_scalar(f"train/{name}", value, step)
                    if codes is not None:
                        for stage, value in enumerate(
                            perplexity(codes.transpose(0, 1).flatten(1), config.model.codebook_size)
                        ):
                            writer.add_scalar(f"batch_perplexity/{stage}", value, step)
                    bar.set_postfix(
                        mel=f"{values['mel']:.3f}",
                        spectrum=f"{values['spectrum']:.3f}",
                        audio=f"{values['seconds_per_second']:.0f}s/s",
                    )
                    since, since_step = time.perf_counter(), step
                if step % config.validate_every == 0 or step == config.steps:
                    log_validation(trainer, writer)
                    since, since_step = time.perf_counter(), step
                if step % config.checkpoint_every == 0 or step == config.steps:
                    save_checkpoint(trainer, checkpoint)
    except KeyboardInterrupt:
        save_checkpoint(trainer, checkpoint)
        print(f"interrupted; saved step {trainer.step} to {checkpoint}")
        raise
    finally:
        bar.close()
        writer.close()
    # rounded to float16: half the size on disk, and no more different from the trained weights than noise
    trainer.tokenizer.half().float().save(out / "tokenizer")
    return out / "tokenizer"


def log_validation(trainer: Trainer, writer: SummaryWriter) -> None:
    """Validate and write losses, audio and spectrograms to TensorBoard."""
    values, pairs = trainer.validate()
    for name, value in values.items():
        writer.add_scalar(f"validation/{name}", value, trainer.step)
    rate = trainer.config.model.sample_rate
    for index, (original, decoded) in enumerate(pairs[:4]):
        writer.add_audio(f"original/{index}", original, trainer.step, rate)
        writer.add_audio(f"decoded/{index}", decoded, trainer.step, rate)
        writer.add_figure(f"spectrogram/{index}", spectrogram_figure(original, decoded, rate), trainer.step)
    summary = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    tqdm.write(f"step {trainer.step}: {summary}")


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
    except KeyboardInterrupt:
        return 130
    print(f"wrote {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
