"""Pretraining in two iterations: from audio to an exported teacher."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from speechtok.device import check_device
from speechtok.errors import ConfigError
from speechtok.hashing import hash_tensors
from training.autocast import autocast
from training.checkpoints import make_folder
from training.dataset import Corpus, pack
from training.harness import Run, fit, resume
from training.logs import Report
from training.manifest import Utterance, find_utterances
from training.results import Export
from training.teachers.hubert import Hubert
from training.teachers.mfcc import MFCC
from training.teachers.pretrain.augmentation import CropSampler
from training.teachers.pretrain.config import PretrainingConfig
from training.teachers.pretrain.frame_labels import FrameLabels, label_clusters, label_phones, phone_names
from training.teachers.pretrain.trainer import PretrainingTrainer
from training.teachers.pretrain.validation import phone_accuracy

SHOWN = ("loss", "cluster_accuracy", "phone_accuracy")
"""Scalars beside the progress bar."""


def pretrain(config: PretrainingConfig) -> Path:
    """Run both iterations from their start, or from their last checkpoint, and export the teacher.

    Returns:
        The folder of the exported teacher.

    Raises:
        SpeechtokError: the config, the data or a checkpoint cannot be used, or too many steps in a row are skipped.
        KeyboardInterrupt: a stop was requested, and the state was saved.
    """
    out, model = Path(config.out), config.model
    check_device(config.device)
    make_folder(out)
    train, dev = find_utterances(config.data)
    names = phone_names(train)
    check_phones(config, names)
    # training labels are twice as fine as frames: crops start anywhere, and their speed changes
    corpus, phones = load_split(train, config, names, model.hop_length // 2)
    dev_corpus, dev_phones = load_split(dev, config, names, model.hop_length)
    torch.manual_seed(config.seed)
    network = Hubert(model, names)
    for number, name in enumerate(("first", "second"), 1):
        iteration = config.first if name == "first" else config.second
        network.to(config.device).eval()
        compute, features = mfcc_targets(config) if name == "first" else hubert_targets(config, network)
        path = out / f"{name}-clusters.npy"
        clusters = label_clusters(compute, corpus, model.hop_length, iteration.clusters, config.seed, path, features)
        crops = CropSampler(config, corpus, clusters, phones, iteration, (config.seed, number))
        trainer = PretrainingTrainer(config, name, network, crops)
        validates = bool(iteration.phone_weight) and bool((dev_phones.values >= 0).any())
        validate = (lambda: phone_accuracy(network, dev_corpus, dev_phones)) if validates else None
        export = export_of(network, config, out / "teacher") if name == "second" else None
        if run_iteration(trainer, validate, export) and name == "first":
            raise KeyboardInterrupt
    return out / "teacher"


def export_of(network: Hubert, config: PretrainingConfig, folder: Path) -> Export:
    """The exported teacher, for the harness."""

    def write() -> None:
        exported = copy.deepcopy(network).eval()
        if not config.second.phone_weight:  # the classifier was not trained
            exported.phones, exported.phone_head = (), nn.Linear(config.model.dim, 0)
        exported.save(folder)

    return Export(folder, write, sum(x.numel() * x.element_size() for x in network.state_dict().values()))


def run_iteration(
    trainer: PretrainingTrainer, validate: Callable[[], dict[str, float]] | None, export: Export | None
) -> bool:
    """Train one iteration from its start, or from its last checkpoint, to its end, and write its result.

    Returns:
        Whether a stop was requested during the last step.

    Raises:
        KeyboardInterrupt: a stop was requested, and the state was saved.
    """
    config, name = trainer.config, trainer.name
    run = Run(
        out=Path(config.out),
        steps=trainer.iteration.steps,
        log_every=config.log_every,
        validate_every=config.validate_every,
        checkpoint_every=config.checkpoint_every,
        workers=config.workers,
        seconds_per_step=config.batch_size * config.crop_seconds,
        compiled=config.compile,
        name=f"{name} iteration",
        shown=SHOWN,
        checkpoint_name=f"{name}.pt",
        tensorboard_name=f"tensorboard/{name}",
    )
    resume(trainer, run)
    if trainer.step >= run.steps and export is None:
        return False
    return fit(trainer, run, (lambda: Report(validate())) if validate else None, export)


def check_phones(config: PretrainingConfig, names: tuple[str, ...]) -> None:
    """Check that the training data has phones if the phone classifier is trained.

    Raises:
        ConfigError: it has none.
    """
    for name, iteration in (("first", config.first), ("second", config.second)):
        if iteration.phone_weight and not names:
            raise ConfigError(
                f"{name}.phone_weight is {iteration.phone_weight}, but no training utterance of {config.data} has "
                f"phones; pass {name}.phone_weight=0, or add 'phones' to the manifest"
            )


def load_split(
    utterances: list[Utterance], config: PretrainingConfig, names: tuple[str, ...], hop_length: int
) -> tuple[Corpus, FrameLabels]:
    """Packed audio of a split, and the phone of each frame of ``hop_length`` samples."""
    corpus = pack([u.audio for u in utterances], config.model.sample_rate, Path(config.out) / "audio")
    if corpus.skipped:
        print(f"skipped {len(corpus.skipped)} files that cannot be read, such as {corpus.skipped[0]}")
    skipped = set(corpus.skipped)
    kept = [u for u in utterances if str(u.audio) not in skipped]
    return corpus, label_phones(kept, corpus, names, hop_length, config.model.sample_rate)


Targets = tuple[Callable[[Tensor], Tensor], str]
"""Features to cluster, ``(1, S)`` to ``(1, T, D)``, and their name."""


def mfcc_targets(config: PretrainingConfig) -> Targets:
    """MFCCs on the frame grid of the network; each frame is the mean of two."""
    hop_length = config.model.hop_length
    mfcc = MFCC(config.model.sample_rate, hop_length // 2)

    def compute(waveform: Tensor) -> Tensor:
        frames = -(-waveform.shape[1] // hop_length)
        waveform = nn.functional.pad(waveform, (0, frames * hop_length - waveform.shape[1]))
        return mfcc(waveform).unflatten(1, (frames, 2)).mean(2)

    return compute, "mfcc"


def hubert_targets(config: PretrainingConfig, network: Hubert) -> Targets:
    """Features of a block of the network."""
    device = torch.device(config.device)

    @torch.no_grad()
    def compute(waveform: Tensor) -> Tensor:
        frames = -(-waveform.shape[1] // config.model.hop_length)
        valid = torch.ones(1, frames, dtype=torch.bool, device=device)
        spectra = network.spectra(waveform.to(device))
        with autocast(device, config.bfloat16):
            return network(spectra, valid)[config.target_layer - 1]

    return compute, f"layer {config.target_layer} of {hash_tensors({}, network.state_dict())}"
