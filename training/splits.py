"""The data of a training: packed audio of both splits, phones for validation, and features of a teacher."""

from pathlib import Path
from typing import NamedTuple

from speechtok.errors import AudioError, CheckpointError
from training.augmentation import load_noise
from training.config import TrainingConfig
from training.dataset import Corpus, pack
from training.distributed import World
from training.manifest import Phone, find_utterances
from training.teachers import FeatureStore


class Splits(NamedTuple):
    """Audio to train on and to validate on, and what belongs to it.

    Attributes:
        train: utterances to train on.
        dev: utterances to validate on.
        alignments: phones of aligned utterances of ``dev``, by index.
        features: features of a teacher for ``train``.
        labels: phone logits of a teacher for ``train``.
        noise: noise for disturbed views of ``train``.
    """

    train: Corpus
    dev: Corpus
    alignments: dict[int, tuple[Phone, ...]]
    features: FeatureStore | None
    labels: FeatureStore | None
    noise: Corpus | None = None


def load_splits(config: TrainingConfig, world: World) -> Splits:
    """Load the data of a training. The first process of each machine packs the audio.

    Raises:
        MissingFileError: ``data`` does not exist.
        AudioError: no audio can be read, or less than one batch.
        OutputError: the folder ``out`` cannot be written.
        CheckpointError: the teacher's features belong to other audio.
    """
    sample_rate = config.model.sample_rate
    utterances = find_utterances(config.data)
    directory = Path(config.out) / "audio"
    if world.local_rank:
        world.barrier()
    corpora = [pack([u.audio for u in split], sample_rate, directory) for split in utterances]
    noise = load_noise(config.augmentation, sample_rate, directory)
    if not world.local_rank:
        world.barrier()
    train, dev = corpora
    if world.writes:
        for corpus in corpora:
            if corpus.skipped:
                total = len(corpus) + len(corpus.skipped)
                print(
                    f"skipped {len(corpus.skipped)} of {total} files that cannot be read, such as {corpus.skipped[0]}"
                )
    seconds, batch_seconds = train.size / sample_rate, config.batch_size * config.crop_seconds
    if seconds < batch_seconds:
        raise AudioError(
            f"data is {config.data!r}, with {seconds:.1f} s of audio to train on; expected at least one batch, "
            f"{batch_seconds:.1f} s: add audio, or lower batch_size or crop_seconds"
        )
    files = [u.audio for u in utterances[0]]
    features, labels = (
        FeatureStore(Path(folder), config.data, files, train, sample_rate) if folder else None
        for folder in (config.distillation.features, config.distillation.labels)
    )
    if labels is not None and not labels.description.phones:
        raise CheckpointError(
            f"distillation.labels is {config.distillation.labels!r}, with features of layer "
            f"{labels.description.layer!r}; expected phone logits: python -m training.teachers --layer phones"
        )
    skipped = set(dev.skipped)
    packed = [u for u in utterances[1] if str(u.audio) not in skipped]
    alignments = {index: u.phones for index, u in enumerate(packed) if u.phones}
    return Splits(train, dev, alignments, features, labels, noise)
