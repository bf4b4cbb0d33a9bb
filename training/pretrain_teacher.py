"""Make a teacher of your own: ``python training/pretrain_teacher.py --config training/configs/teacher.yaml data=DIR``.

A small HuBERT in two iterations: masked prediction of k-means clusters of MFCCs, then of clusters of its own features.
Where the manifest aligns phones with the audio, they can sharpen an iteration: the network also learns to name them.

Interrupt it at any moment and run the same command again: it goes on from its last checkpoint, and reaches the weights
that it would have reached uninterrupted.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ is None or __package__ == "":  # run as a script: find the packages beside this folder
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from speechtok.config import from_mapping
from speechtok.errors import CheckpointError, ConfigError, OutputError, SpeechtokError
from speechtok.files import replacing
from training.autocast import autocast
from training.checkpoints import make_folder
from training.clusters import assign, fit_clusters
from training.config import read_values
from training.cuda_graph import CUDAGraphed
from training.dataset import Corpus, find_utterances, pack
from training.distributed import usable_device
from training.features import MFCC, frame_centres
from training.hubert import Hubert, HubertConfig, hash_weights
from training.muon import Muon
from training.phones import SILENCE, Phone, phones_at, read_alignments
from training.prefetch import ahead
from training.signals import stop_requests

KMEANS_FRAMES = 200_000
"""Frames that k-means is fitted on, drawn from all of the training audio."""


@dataclass(frozen=True)
class IterationConfig:
    """One round of masked prediction.

    Attributes:
        steps: optimizer steps.
        clusters: of k-means, whose labels are predicted.
        phone_weight: weight of the phone classifier's loss; 0 learns from audio alone.
        phone_share: share of the crops that is drawn from utterances with phones, if ``phone_weight`` is not 0.
        mask_start: share of the frames at which a masked span begins.
        muon_lr: peak rate of Muon, for the matrices inside the blocks.
        adamw_lr: peak rate of AdamW, for the rest.
    """

    steps: int
    clusters: int
    phone_weight: float = 0.0
    phone_share: float = 0.5
    mask_start: float = 0.05
    muon_lr: float = 5e-3
    adamw_lr: float = 2e-3

    def __post_init__(self) -> None:
        for name in ("steps", "clusters"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.clusters > 32_767:
            raise ConfigError(f"clusters is {self.clusters}; expected at most 32767")
        if self.phone_weight < 0:
            raise ConfigError(f"phone_weight is {self.phone_weight}; expected 0 or more")
        if not 0 <= self.phone_share <= 1:
            raise ConfigError(f"phone_share is {self.phone_share}; expected 0 to 1")
        if not 0 < self.mask_start <= 1:
            raise ConfigError(f"mask_start is {self.mask_start}; expected a share above 0, at most 1")


@dataclass(frozen=True)
class PretrainingConfig:
    """The making of a teacher, complete: the same config, data and machine give the same weights.

    Attributes:
        data: a manifest (``.jsonl``), a folder with ``train.jsonl`` and perhaps ``dev.jsonl``, or any folder of audio.
        out: folder of the run: packed audio, cluster labels, checkpoints, TensorBoard logs, exported teacher.
        first: iteration on clusters of MFCCs.
        second: iteration on clusters of the first one's features, from its weights.
        model: the network.
        seed: of weights, clusters, crops and dropout.
        batch_size: crops a step.
        crop_seconds: length of a crop.
        target_layer: block whose features the second iteration's clusters are of, counted from 1.
        mask_length: frames of a masked span.
        band_masks: stretches of mel bands hidden from each crop (SpecAugment).
        band_mask_width: most bands in one of them.
        speed_low: lowest speed of a crop; pitch and formants follow.
        speed_high: highest speed.
        noise_low_db: lowest level of the noise that is added, under the crop's.
        noise_high_db: highest level.
        weight_decay: of Muon.
        warmup_steps: steps of linear warm-up.
        decay_fraction: share of the steps, the last ones, over which the rates fall to zero.
        clip_norm: largest norm of the gradient.
        device: ``"cpu"``, ``"cuda"``, …
        bfloat16: matrix products in bfloat16 (autocast), where the device has instructions for it.
        compile: compile the network (``torch.compile``); on a GPU, also record whole steps (CUDA graphs).
        workers: processes that make batches; 0: a thread does.
        log_every: steps between scalars in TensorBoard.
        validate_every: steps between measurements of the phone accuracy on held-out utterances.
        checkpoint_every: steps between checkpoints.
    """

    data: str
    out: str
    first: IterationConfig
    second: IterationConfig
    model: HubertConfig = field(default_factory=HubertConfig)
    seed: int = 0
    batch_size: int = 12
    crop_seconds: float = 4.0
    target_layer: int = 3
    mask_length: int = 10
    band_masks: int = 2
    band_mask_width: int = 16
    speed_low: float = 0.85
    speed_high: float = 1.2
    noise_low_db: float = -50.0
    noise_high_db: float = -10.0
    weight_decay: float = 0.1
    warmup_steps: int = 50
    decay_fraction: float = 0.6
    clip_norm: float = 1.0
    device: str = "cpu"
    bfloat16: bool = True
    compile: bool = True
    workers: int = 0
    log_every: int = 20
    validate_every: int = 200
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "mask_length": 1, "log_every": 1, "validate_every": 1, "checkpoint_every": 1}
        for name, lowest in (least | {"workers": 0, "seed": 0}).items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {lowest}")
        if self.crop_frames < self.mask_length:
            raise ConfigError(
                f"crop_seconds is {self.crop_seconds}, {self.crop_frames} frames; expected at least mask_length "
                f"({self.mask_length}) frames"
            )
        if not 1 <= self.target_layer <= self.model.depth:
            raise ConfigError(f"target_layer is {self.target_layer}; expected 1 to model.depth ({self.model.depth})")
        if self.band_masks < 0 or not 0 <= self.band_mask_width < self.model.bands:
            raise ConfigError(
                f"band_masks is {self.band_masks} and band_mask_width {self.band_mask_width}; expected none or more, "
                f"and fewer bands than model.bands ({self.model.bands})"
            )
        if not 0.5 <= self.speed_low <= self.speed_high <= 2:
            raise ConfigError(
                f"speed_low is {self.speed_low} and speed_high {self.speed_high}; expected 0.5 to 2, the lower first"
            )
        if self.noise_low_db > self.noise_high_db:
            raise ConfigError(f"noise_low_db is {self.noise_low_db}; expected at most {self.noise_high_db}")
        if not 0 < self.decay_fraction <= 1:
            raise ConfigError(f"decay_fraction is {self.decay_fraction}; expected above 0, at most 1")

    @property
    def crop_frames(self) -> int:
        """Frames of a crop."""
        return int(self.crop_seconds * self.model.sample_rate) // self.model.hop_length

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def load_config(path: str, overrides: Sequence[str] = ()) -> PretrainingConfig:
    """Read a YAML file and apply ``name=value`` overrides, dots for nested fields: ``second.steps=1000``.

    Raises:
        MissingFileError: there is no such file.
        ConfigError: the file is no YAML, or a field is unknown, missing or of the wrong type.
    """
    return from_mapping(PretrainingConfig, read_values(path, overrides))


@dataclass(frozen=True)
class FrameLabels:
    """A label for every frame of a corpus.

    Attributes:
        values: int16, the frames of all utterances end to end; -1 where there is none.
        offsets: where the frames of each utterance begin, and the end of the last.
        hop_length: samples a frame.
    """

    values: np.ndarray
    offsets: np.ndarray
    hop_length: int

    def at(self, utterance: int, samples: np.ndarray) -> np.ndarray:
        """Labels of the frames around ``samples`` of an utterance, int64; -1 past its end."""
        first, end = self.offsets[utterance], self.offsets[utterance + 1]
        frames = first + (samples // self.hop_length).astype(np.int64)
        labels = self.values[frames.clip(first, end - 1)].astype(np.int64)
        return np.where(frames < end, labels, -1)


@dataclass(frozen=True)
class Batch:
    """What one step learns from.

    Attributes:
        waveform: float32 ``(B, S)``.
        valid: bool ``(B, T)``, false where a row is padding.
        masked: bool ``(B, T)``, true where the frame is hidden from the network.
        bands: float32 ``(B, bands)``, 0 where a mel band is hidden, else 1.
        clusters: int64 ``(B, T)``, -1 where there is no label.
        phones: int64 ``(B, T)``, -1 where there is no label.
    """

    waveform: Tensor
    valid: Tensor
    masked: Tensor
    bands: Tensor
    clusters: Tensor
    phones: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on another device."""
        return Batch(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


class Crops:
    """Batches that only seed, iteration and step decide.

    Args:
        config: lengths and augmentations.
        corpus: the audio.
        clusters: targets of masked prediction.
        phones: labels of the phone classifier.
        iteration: how much is masked, and how many crops have phones.
        seed: what the batches follow from, beside the step.
    """

    def __init__(
        self,
        config: PretrainingConfig,
        corpus: Corpus,
        clusters: FrameLabels,
        phones: FrameLabels,
        iteration: IterationConfig,
        seed: tuple[int, int],
    ) -> None:
        self.config, self.corpus, self.clusters, self.phones, self.seed = config, corpus, clusters, phones, seed
        self.mask_start, phone_share = iteration.mask_start, iteration.phone_share
        weights = np.diff(corpus.offsets).astype(np.float64)
        if iteration.phone_weight:
            starts = phones.offsets[:-1]
            labelled = np.maximum.reduceat(phones.values, starts) >= 0 if len(starts) else np.zeros(0, bool)
            if labelled.any() and not labelled.all():
                weights[labelled] *= phone_share / weights[labelled].sum()
                weights[~labelled] *= (1 - phone_share) / weights[~labelled].sum()
        self.cumulative = np.cumsum(weights) / weights.sum()

    def __call__(self, step: int) -> Batch:
        """The batch of a step."""
        c = self.config
        hop, frames, rows = c.model.hop_length, c.crop_frames, c.batch_size
        samples = frames * hop
        rng = np.random.default_rng((*self.seed, step))
        waveform = np.zeros((rows, samples), np.float32)
        valid, masked = np.zeros((rows, frames), bool), np.zeros((rows, frames), bool)
        bands = np.ones((rows, c.model.bands), np.float32)
        clusters, phones = np.full((rows, frames), -1), np.full((rows, frames), -1)
        for row in range(rows):
            index = min(int(np.searchsorted(self.cumulative, rng.random(), side="right")), len(self.corpus) - 1)
            first, end = self.corpus.offsets[index], self.corpus.offsets[index + 1]
            speed = rng.uniform(c.speed_low, c.speed_high)
            start = int(rng.integers(0, max(1, end - first - int(samples * speed) + 1)))
            piece = self.corpus.samples[first + start : min(first + start + int(samples * speed) + 2, end)]
            length = min(samples, int(len(piece) / speed))
            positions = np.arange(length) * speed
            sound = np.interp(positions, np.arange(len(piece)), piece / np.float32(32_768)).astype(np.float32)
            level = 10 ** (rng.uniform(c.noise_low_db, c.noise_high_db) / 20) * float(np.sqrt(np.mean(sound**2) + 1e-9))
            waveform[row, :length] = sound + level * coloured_noise(rng, length)
            centres = np.arange(frames) * hop + hop // 2
            valid[row] = centres < length
            valid[row, 0] = True
            source = start + centres * speed
            clusters[row] = np.where(valid[row], self.clusters.at(index, source), -1)
            phones[row] = np.where(valid[row], self.phones.at(index, source), -1)
            for begin in np.flatnonzero(rng.random(frames) < self.mask_start):
                masked[row, begin : begin + c.mask_length] = True
            for _ in range(c.band_masks):
                width = int(rng.integers(0, c.band_mask_width + 1))
                low = int(rng.integers(0, c.model.bands - width + 1))
                bands[row, low : low + width] = 0
        arrays = (waveform, valid, masked & valid, bands, clusters, phones)
        return Batch(*(torch.from_numpy(array) for array in arrays))


def coloured_noise(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Noise of power 1 whose spectrum falls by a random slope, from none to 6 dB an octave, float32 ``(S,)``."""
    spectrum = np.fft.rfft(rng.standard_normal(max(2, samples)).astype(np.float32))
    spectrum *= (np.arange(len(spectrum)) + 20.0) ** -rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, max(2, samples))[:samples]
    return (noise / np.sqrt(np.mean(noise**2) + 1e-12)).astype(np.float32)


class Trainer:
    """One iteration of masked prediction.

    Args:
        config: the whole training.
        iteration: its part that this is.
        network: what learns, in place.
        crops: its batches.
    """

    def __init__(self, config: PretrainingConfig, iteration: IterationConfig, network: Hubert, crops: Crops) -> None:
        torch.manual_seed(config.seed)
        self.config, self.iteration, self.crops = config, iteration, crops
        self.device = torch.device(config.device)
        self.network = network.to(self.device).train().requires_grad_(True)
        self.cluster_head = nn.Linear(config.model.dim, iteration.clusters).to(self.device)
        learned = nn.ModuleDict({"network": self.network, "cluster_head": self.cluster_head})
        matrices = [p for name, p in learned.named_parameters() if ".blocks." in name and p.ndim == 2]
        inside = {id(p) for p in matrices}
        rest = [p for p in learned.parameters() if id(p) not in inside and p.numel()]
        self.learned, self.parameters = learned, matrices + rest
        adamw = torch.optim.AdamW(
            rest, lr=iteration.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, capturable=self.device.type == "cuda"
        )
        self.optimizers = [
            (Muon(matrices, iteration.muon_lr, config.weight_decay), iteration.muon_lr),
            (adamw, iteration.adamw_lr),
        ]
        self._rates = [torch.zeros((), device=self.device) for _ in self.optimizers]
        self.step = 0
        self._forward: Callable[..., tuple[Tensor, Tensor]] = self._logits
        self._learn: Callable[..., dict[str, Tensor]] = self._gradients
        self._move: Callable[[], None] = self._update
        if config.compile:
            self._forward = torch.compile(self._logits)
            if self.device.type == "cuda":
                self._learn, self._move = CUDAGraphed(self._gradients), CUDAGraphed(self._update)

    def _logits(self, spectra: Tensor, valid: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network(spectra, valid, masked)[-1]
        return self.cluster_head(features), self.network.phone_head(features)

    def run_step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimizer step. Returns losses and accuracies."""
        batch = batch.to(self.device)
        terms = self._learn(*(getattr(batch, field.name) for field in dataclasses.fields(batch)))
        if not torch.isfinite(terms["loss"] + terms["gradient_norm"]):
            raise SpeechtokError(
                f"loss or gradient of step {self.step} is not finite; lower muon_lr and adamw_lr of the iteration, or "
                "clip_norm, and run again: training goes on from the last checkpoint"
            )
        left = (self.iteration.steps - self.step) / (self.config.decay_fraction * self.iteration.steps)
        factor = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps), left)
        for (optimizer, peak), rate in zip(self.optimizers, self._rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate.fill_(peak * factor) if rate.is_cuda else peak * factor
        self._move()
        if not isinstance(self._learn, CUDAGraphed) or not self._learn.ready:  # a recording writes over its gradients
            for optimizer, _ in self.optimizers:
                optimizer.zero_grad()
        self.step += 1
        return {name: value.detach() for name, value in terms.items()}

    def _gradients(
        self, waveform: Tensor, valid: Tensor, masked: Tensor, bands: Tensor, clusters: Tensor, phones: Tensor
    ) -> dict[str, Tensor]:
        """Set the gradients of all weights for a :class:`Batch`. Returns losses and accuracies."""
        with torch.no_grad():
            spectra = self.network.spectra(waveform, valid) * bands.repeat(1, 2)[:, None]
        with autocast(self.device, self.config.bfloat16):
            cluster_logits, phone_logits = self._forward(spectra, valid, masked)
        hidden = masked & (clusters >= 0)
        terms = classification("cluster", cluster_logits, torch.where(hidden, clusters, -1))
        terms["loss"] = terms["cluster_loss"]
        if self.iteration.phone_weight:
            terms |= classification("phone", phone_logits, phones)
            terms["loss"] = terms["loss"] + self.iteration.phone_weight * terms["phone_loss"]
        terms["loss"].backward()
        terms["gradient_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        return terms

    def _update(self) -> None:
        """Move the weights."""
        for optimizer, _ in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the iteration depends on."""
        return {
            "config": self.config.to_dict(),
            "phones": list(self.network.phones),
            "step": self.step,
            "learned": self.learned.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.step = state["step"]
        self.learned.load_state_dict(state["learned"])
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            capturable = optimizer.param_groups[0].get("capturable")
            optimizer.load_state_dict(saved)
            if capturable is not None:  # a matter of this machine, not of the one that saved
                optimizer.param_groups[0]["capturable"] = capturable
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)


def classification(name: str, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Cross-entropy and accuracy of ``(B, T, N)`` logits where ``(B, T)`` targets are not -1; 0 where all are."""
    labelled = targets >= 0
    count = labelled.sum().clamp_min(1)
    loss = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum"
    )
    correct = ((logits.argmax(-1) == targets) & labelled).sum()
    return {f"{name}_loss": loss / count, f"{name}_accuracy": correct / count}


def phone_names(alignments: dict[Path, tuple[Phone, ...]]) -> tuple[str, ...]:
    """Every phone of the alignments, silence first."""
    names = {phone.name for phones in alignments.values() for phone in phones}
    return (SILENCE, *sorted(names - {SILENCE})) if names else ()


def frame_phones(
    files: Sequence[Path],
    corpus: Corpus,
    alignments: dict[Path, tuple[Phone, ...]],
    names: Sequence[str],
    hop_length: int,
    sample_rate: int,
) -> FrameLabels:
    """Phone in the middle of every frame of the corpus; ``files`` are its utterances."""
    counts = -(-np.diff(corpus.offsets) // hop_length)
    values = [
        phones_at(alignments.get(file, ()), frame_centres(int(n), hop_length, sample_rate).numpy(), names)
        for file, n in zip(files, counts, strict=True)
    ]
    return FrameLabels(np.concatenate(values).astype(np.int16), np.concatenate([[0], np.cumsum(counts)]), hop_length)


def cluster_corpus(
    extract: Callable[[Tensor], Tensor],
    corpus: Corpus,
    hop_length: int,
    clusters: int,
    seed: int,
    path: Path,
    features: str,
) -> FrameLabels:
    """Fit k-means on features of the corpus and label all of its frames; kept on disk for the next run.

    Args:
        extract: ``(1, S)`` to ``(1, T, D)``, ``T`` being ``ceil(S / hop_length)``.
        corpus: the audio.
        hop_length: samples a frame.
        clusters: their number.
        seed: of the frames that k-means is fitted on, and of k-means.
        path: ``.npy`` file of the labels; what they depend on is hashed into its name.
        features: what ``extract`` depends on, beside the audio.
    """
    offsets = np.concatenate([[0], np.cumsum(-(-np.diff(corpus.offsets) // hop_length))])
    # the audio by its lengths and a sprinkling of its samples: where the files lie does not matter
    digest = hashlib.sha256(f"{hop_length} {clusters} {seed} {KMEANS_FRAMES} {features}\n".encode())
    digest.update(corpus.offsets.astype(np.int64).tobytes())
    digest.update(corpus.samples[:: max(1, corpus.size // 4096)].tobytes())
    path = path.with_stem(f"{path.stem}-{digest.hexdigest()[:16]}")
    if not path.exists():
        rng = np.random.default_rng(seed)
        share = min(1.0, KMEANS_FRAMES / offsets[-1])
        features, drawn = [], []
        for index in tqdm(range(len(corpus)), desc="features to cluster", unit="utterance"):
            frames = extract(corpus[index][None])[0].float().cpu()
            features.append(frames.half())
            drawn.append(frames[torch.from_numpy(rng.random(len(frames)) < share)])
        centroids = fit_clusters(torch.cat(drawn).numpy(), clusters, seed)
        labels = [assign(frames.float(), centroids) for frames in features]
        with replacing(path) as temporary:
            np.save(temporary, torch.cat(labels).numpy().astype(np.int16))
    return FrameLabels(np.load(path), offsets, hop_length)


@torch.no_grad()
def phone_accuracy(network: Hubert, corpus: Corpus, phones: FrameLabels) -> dict[str, float]:
    """Share of the labelled frames that are named right, with and without silence.

    Args:
        network: what names them.
        corpus: the audio.
        phones: labels of the network's frames.
    """
    assert phones.hop_length == network.config.hop_length
    network.eval()
    device, hop = next(network.parameters()).device, network.config.hop_length
    right, spoken = [], []
    for index in range(len(corpus)):
        waveform = corpus[index][None].to(device)
        frames = -(-waveform.shape[1] // hop)
        labels = torch.from_numpy(phones.at(index, np.arange(frames) * hop))
        if (labels >= 0).any():
            valid = torch.ones(1, frames, dtype=torch.bool, device=device)
            named = network.phone_head(network(network.spectra(waveform), valid)[-1])[0].argmax(-1).cpu()
            right.append((named == labels)[labels >= 0])
            spoken.append(labels[labels >= 0] > 0)
    network.train()
    hits, speech = torch.cat(right), torch.cat(spoken)
    return {
        "phone_accuracy": float(hits.float().mean()),
        "phone_accuracy_without_silence": float(hits[speech].float().mean()),
    }


def load_checkpoint(trainer: Trainer, path: Path, iteration: str) -> None:
    """Go on from ``path``.

    Raises:
        CheckpointError: it is damaged, or of a training with another config or other phones.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = _fixed(state["config"], iteration)
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to start again") from error
    mine = _fixed(trainer.config.to_dict(), iteration)
    mine["phones"] = list(trainer.network.phones)
    saved["phones"] = state.get("phones", mine["phones"])  # which older checkpoints do not name
    for name, value in mine.items():
        if value != saved.get(name):
            raise CheckpointError(
                f"{path} was trained with {name} {saved.get(name)!r}, and now it would be {value!r}; "
                "choose another out=… for another training"
            )
    try:
        trainer.load_state_dict(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not fit the network ({error}); it is of other phones, or of another version of "
            "training/pretrain_teacher.py: choose another out=…"
        ) from error


def _fixed(config: dict[str, Any], iteration: str) -> dict[str, Any]:
    """The part of a config that must stay in the midst of an iteration, as plain values.

    How fast to learn and on what machine may change, and what does not touch the weights; so may what comes later, and
    how long the last iteration is.
    """
    free = {"data", "out", "device", "compile", "workers", "clip_norm"} | {
        name for name in config if name.endswith("_every")
    }
    if iteration == "first":
        free |= {"second", "target_layer"}
    fixed = {name: value for name, value in config.items() if name not in free}
    for name in {"first", "second"} & fixed.keys():
        rates = {"muon_lr", "adamw_lr"} | ({"steps"} if name == "second" else set())
        fixed[name] = {key: value for key, value in fixed[name].items() if key not in rates}
    return fixed


def run_iteration(
    trainer: Trainer, name: str, out: Path, validate: Callable[[Hubert], dict[str, float]] | None
) -> None:
    """Train from the start or the last checkpoint to the end of one iteration.

    Raises:
        KeyboardInterrupt: it was asked to stop, and has saved where it was.
    """
    config, steps = trainer.config, trainer.iteration.steps
    checkpoint = out / f"{name}.pt"
    if checkpoint.exists():
        load_checkpoint(trainer, checkpoint, name)
        print(f"{name} iteration: going on from step {trainer.step}")
    if trainer.step >= steps:
        return
    seconds = config.batch_size * config.crop_seconds
    writer = SummaryWriter(str(out / "tensorboard" / name), purge_step=trainer.step)
    bar = tqdm(total=steps, initial=trainer.step, desc=f"{name} iteration", unit="step", dynamic_ncols=True)

    def save(last: bool) -> None:
        try:
            with replacing(checkpoint) as temporary:
                torch.save(trainer.state_dict(), temporary)
        except (OutputError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            message = (
                f"the checkpoint of step {trainer.step} cannot be written ({str(error).splitlines()[0]}); make room at "
                f"{out}"
            )
            if last:
                raise CheckpointError(message) from error
            tqdm.write(message)

    try:
        upcoming = ahead(trainer.crops, trainer.step, steps, config.workers)
        with stop_requests() as requested, contextlib.closing(upcoming):
            since, since_step = time.perf_counter(), trainer.step
            for batch in upcoming:
                if requested.is_set():
                    break
                terms = trainer.run_step(batch)
                bar.update()
                step = trainer.step
                if step % config.log_every == 0 or step == steps:
                    values = {key: float(value) for key, value in terms.items()}
                    values["seconds_per_second"] = seconds * (step - since_step) / (time.perf_counter() - since)
                    for key, value in values.items():
                        writer.add_scalar(f"train/{key}", value, step)
                    shown = {key: f"{value:.3g}" for key, value in values.items() if key != "gradient_norm"}
                    bar.set_postfix(shown)
                    since, since_step = time.perf_counter(), step
                if validate and (step % config.validate_every == 0 or step == steps):
                    measured = validate(trainer.network)
                    for key, value in measured.items():
                        writer.add_scalar(f"validation/{key}", value, step)
                    tqdm.write(f"step {step}: " + ", ".join(f"{key} {value:.4f}" for key, value in measured.items()))
                    since, since_step = time.perf_counter(), step
                if step % config.checkpoint_every == 0 or step == steps:
                    save(step == steps)
            if requested.is_set():
                save(True)
                tqdm.write(f"interrupted; step {trainer.step} is saved to {checkpoint}")
                raise KeyboardInterrupt
    finally:
        bar.close()
        writer.close()


def pretrain(config: PretrainingConfig) -> Path:
    """Run both iterations from their start or last checkpoint. Returns the folder of the exported teacher."""
    out, model = Path(config.out), config.model
    usable_device(config.device)
    make_folder(out)
    splits = find_utterances(config.data)
    alignments = find_alignments(config.data)
    names = phone_names({file: alignments[file] for file in splits[0] if file in alignments})
    for name in ("first", "second"):
        if getattr(config, name).phone_weight and not names:
            raise ConfigError(
                f"{name}.phone_weight is {getattr(config, name).phone_weight}, and no training utterance of "
                f"{config.data} has phones; expected 0, or a manifest with 'phones'"
            )
    corpora, phones = [], []
    # to train on, twice as fine as the network's frames: crops are cut, and their speed changed, at any sample
    for files, hop_length in zip(splits, (model.hop_length // 2, model.hop_length), strict=True):
        corpus = pack(files, model.sample_rate, out / "audio")
        if corpus.skipped:
            print(f"skipped {len(corpus.skipped)} files that could not be read, such as {corpus.skipped[0]}")
        skipped = set(corpus.skipped)
        kept = [file for file in files if str(file) not in skipped]
        phones.append(frame_phones(kept, corpus, alignments, names, hop_length, model.sample_rate))
        corpora.append(corpus)
    train, dev = corpora
    dev_phones = phones[1]
    torch.manual_seed(config.seed)
    network = Hubert(model, names)
    mfcc = MFCC(model.sample_rate, model.hop_length // 2)

    def mfcc_pairs(waveform: Tensor) -> Tensor:
        frames = -(-waveform.shape[1] // model.hop_length)
        waveform = nn.functional.pad(waveform, (0, frames * model.hop_length - waveform.shape[1]))
        return mfcc(waveform).unflatten(1, (frames, 2)).mean(2)

    @torch.no_grad()
    def own_features(waveform: Tensor) -> Tensor:
        frames = -(-waveform.shape[1] // model.hop_length)
        valid = torch.ones(1, frames, dtype=torch.bool, device=config.device)
        spectra = network.spectra(waveform.to(config.device))
        with autocast(torch.device(config.device), config.bfloat16):
            return network(spectra, valid)[config.target_layer - 1]

    for number, (name, extract) in enumerate((("first", mfcc_pairs), ("second", own_features)), 1):
        iteration: IterationConfig = getattr(config, name)
        network.to(config.device).eval()
        labels = out / f"{name}-clusters.npy"
        features = "mfcc" if name == "first" else f"layer {config.target_layer} of {hash_weights(network)}"
        clusters = cluster_corpus(extract, train, model.hop_length, iteration.clusters, config.seed, labels, features)
        crops = Crops(config, train, clusters, phones[0], iteration, (config.seed, number))
        trainer = Trainer(config, iteration, network, crops)
        validate = None
        if iteration.phone_weight and (dev_phones.values >= 0).any():
            validate = lambda network: phone_accuracy(network, dev, dev_phones)  # noqa: E731
        run_iteration(trainer, name, out, validate)
    if not config.second.phone_weight:  # nothing has taught the classifier, which would say something all the same
        network.phones, network.phone_head = (), nn.Linear(model.dim, 0)
    network.eval().save(out / "teacher")
    return out / "teacher"


def find_alignments(data: str) -> dict[Path, tuple[Phone, ...]]:
    """Alignments of the manifests that :func:`training.dataset.find_utterances` reads; none for a folder of audio."""
    path = Path(data)
    manifests = [path] if path.is_file() else [path / name for name in ("train.jsonl", "dev.jsonl")]
    found: dict[Path, tuple[Phone, ...]] = {}
    for manifest in manifests:
        if manifest.is_file():
            found |= read_alignments(manifest)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file; see training/configs/")
    parser.add_argument(
        "overrides", nargs="*", metavar="name=value", help="changes to the config, data=DIR first of all"
    )
    arguments = parser.parse_args(argv)
    try:
        directory = pretrain(load_config(arguments.config, arguments.overrides))
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"wrote {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
