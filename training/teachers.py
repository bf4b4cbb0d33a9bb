"""Teachers: self-supervised speech models whose features codebook 0 is distilled from, and their features on disk.

``python -m training.teachers --teacher SPEC --data DIR --out DIR`` writes the features of every utterance of ``DIR``.
Interrupt it at any moment and run the same command again: finished shards are kept. So run it, too, when audio was
added, replaced or repaired: only what is new is computed.

Specs:
    ``mfcc``                  39 mel-frequency cepstral coefficients and deltas: no teacher, but what one must beat
    ``own:DIR``               a teacher of ``training/pretrain_teacher.py``
    ``torchaudio:BUNDLE``     a bundle of ``torchaudio.pipelines``, such as ``HUBERT_BASE`` or ``WAVLM_LARGE``
    ``transformers:NAME``     HuBERT, WavLM or wav2vec 2.0: a directory, or a name on the Hugging Face hub
    ``fairseq2:CARD``         wav2vec 2.0 or w2v-BERT: the name of a fairseq2 asset card
"""

import argparse
import contextlib
import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from tqdm import tqdm

from speechtok.audio import check_sample_rate, read_audio, resample, resampled_length
from speechtok.errors import AudioError, CheckpointError, InputError, MissingFileError, SpeechtokError
from speechtok.files import replacing
from training.checkpoints import make_folder
from training.dataset import Corpus, find_utterances, in_threads
from training.distributed import usable_device
from training.features import MFCC, align, frame_centres
from training.hubert import Hubert, hash_weights, load_hubert
from training.phones import Phone, phones_at, read_alignments

AVERAGE: Final = "average"
PHONES: Final = "phones"

Layer = int | str
"""A layer counted from 1, ``"average"`` of all layers, or ``"phones"``: the logits of a phone classifier."""

DESCRIPTION_NAME = "features.json"
SHARD_UTTERANCES = 256

MOST_OPEN = 200
"""Shards that a store holds open; systems allow a process some thousand files."""


class Teacher(nn.Module):
    """A model that turns a waveform into features, frame ``t`` of them centred at ``offset + t / frame_rate`` seconds.

    Args:
        sample_rate: of the waveforms that it takes, in hertz.
        dim: width ``D`` of a layer.
        frame_rate: in hertz.
        offset: centre of the first frame, in seconds.
        num_layers: layers whose features can be had.
        layer: see :data:`Layer`.
        phones: names that its phone classifier tells apart, if it has one.
        least_samples: shorter waveforms are padded with silence to this.

    Raises:
        InputError: it has no such layer.
    """

    def __init__(
        self,
        sample_rate: int,
        dim: int,
        frame_rate: float,
        offset: float,
        num_layers: int,
        layer: Layer,
        phones: tuple[str, ...] = (),
        least_samples: int = 1,
    ) -> None:
        super().__init__()
        whole = isinstance(layer, int) and 1 <= layer <= num_layers
        if not whole and layer != AVERAGE and not (layer == PHONES and phones):
            also = ", or 'phones'" if phones else "; it has no phone classifier"
            raise InputError(f"layer is {layer!r}; expected 1 to {num_layers}, 'average'{also}")
        self.sample_rate, self.frame_rate, self.offset = check_sample_rate(sample_rate), frame_rate, offset
        self.num_layers, self.layer, self.phones, self.least_samples = num_layers, layer, phones, least_samples
        self.dim = len(phones) if layer == PHONES else dim

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """Output of every layer for ``(B, S)``, ``(B, T, D)`` each."""
        raise NotImplementedError

    def phone_logits(self, waveform: Tensor) -> Tensor:
        """Logits of :attr:`phones` for ``(B, S)``, ``(B, T, P)``.

        Raises:
            InputError: it has no phone classifier.
        """
        raise InputError(f"{type(self).__name__} has no phone classifier; expected a teacher trained with phones")

    def forward(self, waveform: Tensor) -> Tensor:
        """Features of ``(B, S)`` at :attr:`sample_rate`, float32 ``(B, T, D)``."""
        waveform = nn.functional.pad(waveform, (0, max(0, self.least_samples - waveform.shape[1])))
        if self.layer == PHONES:
            return self.phone_logits(waveform).float()
        layers = self.layers(waveform)
        if self.layer == AVERAGE:
            return torch.stack(tuple(layers)).float().mean(0)
        assert isinstance(self.layer, int)
        return layers[self.layer - 1].float()

    def at(self, features: Tensor, times: Tensor) -> Tensor:
        """Features of this teacher at ``times`` in seconds; see :func:`training.features.align`."""
        return align(features, self.frame_rate, self.offset, times)


class MFCCTeacher(Teacher):
    """Mel-frequency cepstral coefficients and deltas, one layer of 39 at 100 Hz."""

    SAMPLE_RATE = 16_000
    HOP_LENGTH = 160

    def __init__(self, layer: Layer = AVERAGE) -> None:
        rate, hop = self.SAMPLE_RATE, self.HOP_LENGTH
        super().__init__(rate, 3 * MFCC.COEFFICIENTS, rate / hop, hop / 2 / rate, 1, layer)
        self.mfcc = MFCC(rate, hop)

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        return [self.mfcc(waveform)]


class OwnTeacher(Teacher):
    """A network of ``training/pretrain_teacher.py``."""

    def __init__(self, network: Hubert, layer: Layer = AVERAGE) -> None:
        config = network.config
        offset = config.hop_length / 2 / config.sample_rate
        super().__init__(config.sample_rate, config.dim, config.frame_rate, offset, config.depth, layer, network.phones)
        self.network = network

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        spectra = self.network.spectra(waveform)
        return self.network(spectra, torch.ones(spectra.shape[:2], dtype=torch.bool, device=spectra.device))

    def phone_logits(self, waveform: Tensor) -> Tensor:
        """See :class:`Teacher`."""
        if not self.phones:
            return super().phone_logits(waveform)
        return self.network.phone_head(self.layers(waveform)[-1])


class TorchaudioTeacher(Teacher):
    """A model of ``torchaudio.models.wav2vec2``."""

    def __init__(self, model: nn.Module, sample_rate: int, dim: int, num_layers: int, layer: Layer = AVERAGE) -> None:
        inner: Any = getattr(model, "model", model)  # a model that wants normalised waveforms comes wrapped
        kernels = [(c.kernel_size, c.stride) for c in inner.feature_extractor.conv_layers]
        width, hop = receptive_field(kernels)
        super().__init__(
            sample_rate, dim, sample_rate / hop, width / 2 / sample_rate, num_layers, layer, least_samples=width
        )
        self.model = model

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        return self.model.extract_features(waveform)[0]


class TransformersTeacher(Teacher):
    """HuBERT, WavLM or wav2vec 2.0 of transformers."""

    def __init__(self, model: Any, sample_rate: int, normalise: bool, layer: Layer = AVERAGE) -> None:
        config = model.config
        width, hop = receptive_field(list(zip(config.conv_kernel, config.conv_stride, strict=True)))
        super().__init__(
            sample_rate,
            config.hidden_size,
            sample_rate / hop,
            width / 2 / sample_rate,
            config.num_hidden_layers,
            layer,
            least_samples=width,
        )
        self.model, self.normalise = model, normalise

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        if self.normalise:
            waveform = standardise(waveform)
        return self.model(waveform, output_hidden_states=True).hidden_states[1:]  # the first is the layers' input


class Fairseq2Teacher(Teacher):
    """wav2vec 2.0, or w2v-BERT, of fairseq2."""

    SAMPLE_RATE = 16_000
    FBANK_WINDOW, FBANK_HOP = 400, 160  # of Kaldi's filter banks, which w2v-BERT takes

    def __init__(self, model: Any, layer: Layer = AVERAGE) -> None:
        model = getattr(model, "w2v2_model", model)
        extractor = model.encoder_frontend.feature_extractor
        spectral = not hasattr(extractor, "layer_descs")
        if spectral:
            width = self.FBANK_WINDOW + (extractor.stride - 1) * self.FBANK_HOP
            hop = extractor.stride * self.FBANK_HOP
        else:
            width, hop = receptive_field([(kernel, stride) for _, kernel, stride in extractor.layer_descs])
        rate = self.SAMPLE_RATE
        super().__init__(
            rate, model.model_dim, rate / hop, width / 2 / rate, len(model.encoder.layers), layer, least_samples=width
        )
        self.model, self.fbank_channels = model, extractor.num_fbank_channels if spectral else 0

    def layers(self, waveform: Tensor) -> Sequence[Tensor]:
        """See :class:`Teacher`."""
        from fairseq2.nn import BatchLayout

        signal = self._fbank(waveform) if self.fbank_channels else standardise(waveform)
        layout = BatchLayout.of(signal)
        features, layout, _ = self.model.encoder_frontend.extract_features(signal, layout)
        features, _ = self.model.encoder_frontend.process_features(features, layout)
        outputs: list[Tensor] = []

        def keep(_index: int, output: Tensor, _layout: BatchLayout, _layers: int) -> bool:
            outputs.append(output)
            return True

        handle = self.model.encoder.register_layer_hook(keep)
        try:
            self.model.encoder(features, layout)
        finally:
            handle.remove()
        return outputs

    def _fbank(self, waveform: Tensor) -> Tensor:
        from torchaudio.compliance import kaldi

        rows = []
        for row in waveform:
            fbank = kaldi.fbank(row[None] * 2**15, num_mel_bins=self.fbank_channels, sample_frequency=self.SAMPLE_RATE)
            rows.append((fbank - fbank.mean(0)) / (fbank.std(0) + 1e-5))
        fbank = torch.stack(rows)
        stride = self.model.encoder_frontend.feature_extractor.stride
        return fbank[:, : fbank.shape[1] // stride * stride]


def receptive_field(convolutions: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Samples that one output of a stack of unpadded convolutions (kernel size, stride) sees, and samples a step."""
    width, hop = 1, 1
    for kernel, stride in convolutions:
        width += (kernel - 1) * hop
        hop *= stride
    return width, hop


def standardise(waveform: Tensor) -> Tensor:
    """Each row of ``(B, S)`` with mean 0 and variance 1."""
    mean = waveform.mean(1, keepdim=True)
    return (waveform - mean) / (waveform.var(1, keepdim=True, unbiased=False) + 1e-7).sqrt()


def load_teacher(spec: str, layer: Layer = AVERAGE) -> Teacher:
    """Load a teacher, in evaluation mode and without gradients.

    Args:
        spec: see the top of this file.
        layer: see :data:`Layer`.

    Raises:
        InputError: there is no such kind of teacher, or it has no such layer.
        MissingFileError: the teacher is neither here nor reachable.
        CheckpointError: it is damaged, or no speech model of the kinds known.
    """
    kind, _, name = spec.partition(":")
    loaders: dict[str, Callable[[str, Layer], Teacher]] = {
        "own": lambda name, layer: OwnTeacher(load_hubert(name), layer),
        "torchaudio": _load_torchaudio,
        "transformers": _load_transformers,
        "fairseq2": _load_fairseq2,
    }
    if kind == "mfcc" and not name:
        teacher: Teacher = MFCCTeacher(layer)
    elif kind in loaders and name:
        teacher = loaders[kind](name, layer)
    else:
        kinds = ", ".join(f"{kind}:NAME" for kind in loaders)
        raise InputError(f"teacher is {spec!r}; expected mfcc, {kinds}")
    return teacher.eval().requires_grad_(False)


def _load_torchaudio(name: str, layer: Layer) -> Teacher:
    import torchaudio

    bundle = getattr(torchaudio.pipelines, name, None)
    if not isinstance(bundle, torchaudio.pipelines.Wav2Vec2Bundle):
        known = [n for n in dir(torchaudio.pipelines) if isinstance(getattr(torchaudio.pipelines, n), _bundle_type())]
        raise InputError(f"teacher is 'torchaudio:{name}'; expected one of {', '.join(known)}")
    try:
        model = bundle.get_model()
    except OSError as error:
        raise MissingFileError(
            f"torchaudio:{name} is not on this machine and cannot be fetched ({error}); connect it to the network "
            "once, or use a teacher on disk: own:DIR, transformers:DIR"
        ) from error
    inner: Any = getattr(model, "model", model)
    encoder = inner.encoder.transformer
    dim = inner.encoder.feature_projection.projection.out_features
    return TorchaudioTeacher(model, int(bundle.sample_rate), dim, len(encoder.layers), layer)


def _bundle_type() -> type:
    import torchaudio

    return torchaudio.pipelines.Wav2Vec2Bundle


def _load_transformers(name: str, layer: Layer) -> Teacher:
    from huggingface_hub.errors import HFValidationError
    from transformers import AutoFeatureExtractor, AutoModel

    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise MissingFileError(f"there is no file {Path(name) / 'config.json'}; expected what save_pretrained wrote")
    try:
        model = AutoModel.from_pretrained(name)
    except (OSError, HFValidationError) as error:
        raise MissingFileError(
            f"transformers:{name} is neither a directory with a model nor reachable on the hub "
            f"({str(error).splitlines()[0]}); expected a directory that save_pretrained wrote, or a hub name and a "
            "network"
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"transformers:{name} cannot be read ({str(error)[:200]}); expected HuBERT, WavLM or wav2vec 2.0"
        ) from error
    if not hasattr(model.config, "conv_kernel") or not hasattr(model.config, "conv_stride"):
        raise CheckpointError(
            f"transformers:{name} is a {type(model).__name__}; expected HuBERT, WavLM or wav2vec 2.0, which take "
            "waveforms"
        )
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name)
        rate, normalise = int(extractor.sampling_rate), bool(extractor.do_normalize)
    except OSError:  # saved without one: the models with layer norm in the front end were trained on normalised audio
        rate, normalise = 16_000, model.config.feat_extract_norm == "layer"
    return TransformersTeacher(model, rate, normalise, layer)


def _load_fairseq2(name: str, layer: Layer) -> Teacher:
    from fairseq2 import init_fairseq2
    from fairseq2.assets import AssetDownloadError
    from fairseq2.error import InvalidOperationError
    from fairseq2.models import ModelNotKnownError, load_model

    with contextlib.suppress(InvalidOperationError):  # whoever loads two teachers, or uses fairseq2, has done so before
        init_fairseq2()
    try:
        model = load_model(name, device=torch.device("cpu"), dtype=torch.float32)
    except (ModelNotKnownError, AssetDownloadError, OSError) as error:
        raise MissingFileError(
            f"fairseq2:{name} is no card that fairseq2 knows, or cannot be fetched ({error}); expected a card of "
            "wav2vec 2.0 or w2v-BERT, and its checkpoint here or a network"
        ) from error
    if not hasattr(getattr(model, "w2v2_model", model), "encoder_frontend"):
        raise CheckpointError(f"fairseq2:{name} is a {type(model).__name__}; expected wav2vec 2.0 or w2v-BERT")
    return Fairseq2Teacher(model, layer)


@dataclass(frozen=True)
class StoreDescription:
    """What the features in a folder are.

    Attributes:
        teacher: its spec.
        layer: its layer.
        sample_rate: of the teacher, in hertz.
        dim: width ``D``.
        frame_rate: in hertz.
        offset: centre of the first frame, in seconds.
        phones: names of the columns, if they are the logits of a phone classifier.
        aligned: share of the manifest's phones in their probabilities.
        weights: hash of the teacher's weights; empty in stores of before there was one, which are taken on trust.
    """

    teacher: str
    layer: Layer
    sample_rate: int
    dim: int
    frame_rate: float
    offset: float
    phones: list[str]
    aligned: float = 0.0
    weights: str = ""


def extract(
    teacher: Teacher, spec: str, data: str, out: Path, device: str = "cpu", aligned: float = 0.0, workers: int = 0
) -> tuple[int, list[str]]:
    """Write the features of all utterances that :func:`training.dataset.find_utterances` lists, held-out ones included.

    A shard is ``NUMBER.npy``, float16 ``(frames, D)``, and ``NUMBER.json``, which says whose they are and is written
    last: a shard that has it is finished. A file that has changed since, or could not be read, is extracted anew into
    a later shard, which counts.

    Args:
        teacher: the model.
        spec: what it was loaded by.
        data: see :func:`training.dataset.find_utterances`.
        out: folder of the features.
        device: where the teacher computes.
        aligned: share, in the phones' probabilities, of the phones that the manifest of the training split aligns with
            an utterance, as PAST (arXiv 2505.14470) learns from them; the teacher has the rest.
        workers: processes, each with a teacher of its own; 0: this one.

    Returns:
        Utterances in the store, and the files that could not be read.

    Raises:
        CheckpointError: ``out`` has features of another teacher, or of this one with other weights.
        InputError: ``aligned`` is no share, or not of phones; ``workers`` is negative; or there is no such device.
        OutputError: ``out`` cannot be written.
    """
    if not 0 <= aligned <= 1 or (aligned and teacher.layer != PHONES):
        raise InputError(f"aligned is {aligned} with layer {teacher.layer!r}; expected 0 to 1, and layer 'phones'")
    if workers < 0:
        raise InputError(f"workers is {workers}; expected 0 or more")
    usable_device(device)
    alignments = _training_alignments(data) if aligned else {}
    make_folder(out)
    description = StoreDescription(
        spec,
        teacher.layer,
        teacher.sample_rate,
        teacher.dim,
        teacher.frame_rate,
        teacher.offset,
        list(teacher.phones) if teacher.layer == PHONES else [],
        aligned,
        hash_weights(teacher),
    )
    path = out / DESCRIPTION_NAME
    if path.exists():
        _check_description(out, _read_description(path), description)
    else:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(description), indent=2) + "\n")
    finished = [json.loads(p.read_text()) for p in sorted(out.glob("[0-9]*.json"))]
    places = {name: place for shard in finished for name, place in shard["utterances"].items()}
    unread_before = {name for shard in finished for name in shard["skipped"]}
    root = data_root(data)
    files = [file for split in find_utterances(data) for file in split]
    new: list[Path] = []
    again: list[Path] = []
    for file in files:
        name = _name(file, root)
        if name not in places:
            (again if name in unread_before else new).append(file)
        elif not _is_unchanged(file, places[name], teacher.sample_rate):
            again.append(file)
    waiting = new + again  # in this order, so that interrupted extractions end with the same shards
    skipped: list[str] = []
    number = len(finished)
    tasks = [
        _Task(root, tuple(waiting[start : start + SHARD_UTTERANCES]), alignments, aligned, device)
        for start in range(0, len(waiting), SHARD_UTTERANCES)
    ]
    with (
        tqdm(total=len(files), initial=len(files) - len(waiting), desc="features", unit="utterance") as bar,
        contextlib.closing(_shards(teacher, spec, tasks, workers)) as shards,
    ):
        for task, shard in zip(tasks, shards, strict=True):
            bar.update(len(task.files))
            skipped += shard.unread
            unread = [name for name in shard.unread if name not in unread_before]
            if not shard.utterances and not unread:
                continue
            with replacing(out / f"{number:06d}.npy") as temporary:
                np.save(temporary, shard.features)
            with replacing(out / f"{number:06d}.json") as temporary:
                temporary.write_text(json.dumps({"utterances": shard.utterances, "skipped": unread}))
            places.update(shard.utterances)
            number += 1
    return len(places.keys() - set(skipped)), skipped


class _Task(NamedTuple):
    """Files of a shard, named as below ``root``; see :func:`extract` for the rest."""

    root: Path
    files: tuple[Path, ...]
    alignments: Mapping[Path, tuple[Phone, ...]]
    aligned: float
    device: str


class _Shard(NamedTuple):
    """Features of the files that could be read, float16 ``(frames, D)``, whose they are, and the names of the rest."""

    features: np.ndarray
    utterances: dict[str, dict[str, int]]
    unread: list[str]


def _shards(teacher: Teacher, spec: str, tasks: Sequence[_Task], workers: int) -> Iterator[_Shard]:
    """The shards of the tasks, in order."""
    if not workers or not tasks:
        for task in tasks:
            yield _shard(teacher.to(task.device), task)
        return
    context = multiprocessing.get_context("spawn")  # a GPU does not survive a fork
    with context.Pool(min(workers, len(tasks)), _start_worker, (spec, teacher.layer, workers)) as pool:
        yield from pool.imap(_shard_of_worker, tasks)


def _shard(teacher: Teacher, task: _Task) -> _Shard:
    pieces, utterances, unread = [], {}, []
    first = 0
    for file, size, waveform in _read_ahead(task.files, teacher.sample_rate):
        name = _name(file, task.root)
        if waveform is None:
            unread.append(name)
            continue
        with torch.no_grad():
            found = teacher(waveform[None].to(task.device))[0].cpu()
        if file in task.alignments:
            found = _mixed(found, task.alignments[file], teacher, task.aligned)
        utterances[name] = {"first": first, "frames": len(found), "samples": len(waveform), "bytes": size}
        first += len(found)
        pieces.append(found.half().numpy())
    features = np.concatenate(pieces) if pieces else np.zeros((0, teacher.dim), np.float16)
    return _Shard(features, utterances, unread)


_teacher: Teacher


def _start_worker(spec: str, layer: Layer, workers: int) -> None:
    global _teacher
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    _teacher = load_teacher(spec, layer)


def _shard_of_worker(task: _Task) -> _Shard:
    return _shard(_teacher.to(task.device), task)


def _check_description(out: Path, found: StoreDescription, expected: StoreDescription) -> None:
    for field in dataclasses.fields(StoreDescription):
        old, new = getattr(found, field.name), getattr(expected, field.name)
        if old != new and not (field.name == "weights" and not old):
            which = "of a teacher with other weights" if field.name == "weights" else f"with {field.name} {old!r}"
            raise CheckpointError(
                f"{out} has features {which}, and {expected.teacher} has {field.name} {new!r}; choose another folder, "
                "or delete this one"
            )


def _is_unchanged(file: Path, place: dict[str, int], sample_rate: int) -> bool:
    """Whether a file is as it was when its features were made; by its length where the store has no size of it."""
    with contextlib.suppress(OSError, soundfile.SoundFileError):
        if "bytes" in place:
            return os.path.getsize(file) == place["bytes"]
        header = soundfile.info(file)
        return resampled_length(header.frames, header.samplerate, sample_rate) == place["samples"]
    return False


def _training_alignments(data: str) -> dict[Path, tuple[Phone, ...]]:
    manifest = Path(data) if Path(data).is_file() else Path(data) / "train.jsonl"
    return read_alignments(manifest)


def _mixed(logits: Tensor, alignment: Sequence[Phone], teacher: Teacher, share: float) -> Tensor:
    """Logits ``(T, P)`` of the teacher's probabilities and, for a ``share``, of the phones that were aligned."""
    centres = teacher.offset + np.arange(len(logits)) / teacher.frame_rate
    phones = torch.from_numpy(phones_at(alignment, centres, teacher.phones))
    known = (phones >= 0)[:, None]
    spoken = nn.functional.one_hot(phones.clamp_min(0), logits.shape[1])
    mixture = (1 - share) * logits.float().softmax(-1) + share * spoken
    return torch.where(known, mixture.clamp_min(1e-4).log(), logits)


def data_root(data: str) -> Path:
    """The folder that the names in a store are relative to: ``data`` itself, or a manifest's folder."""
    path = Path(data)
    return path if path.is_dir() else path.parent


def _name(file: Path, root: Path) -> str:
    """What a file is called in a store: its path below ``root``; in full, if a manifest names one from elsewhere."""
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def _read_ahead(files: Sequence[Path], sample_rate: int) -> Iterator[tuple[Path, int, Tensor | None]]:
    return in_threads(lambda file: (file, *_read(file, sample_rate)), files, min(8, os.cpu_count() or 1))


def _read(file: Path, sample_rate: int) -> tuple[int, Tensor | None]:
    """Size of a file, in bytes, and its waveform; none if it cannot be read."""
    with contextlib.suppress(AudioError, OSError):
        size = os.path.getsize(file)  # before it is read: if it changes meanwhile, the next extraction sees that
        waveform, rate = read_audio(file)
        return size, resample(waveform[None], rate, sample_rate)[0]
    return -1, None


def _read_description(path: Path) -> StoreDescription:
    try:
        return StoreDescription(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete the folder and extract again") from error


class FeatureStore:
    """Features of a corpus, read from disk where training asks.

    Args:
        directory: what :func:`extract` wrote.
        data: the data that the corpus was packed from, as :func:`training.dataset.find_utterances` takes it.
        files: the files that the corpus was packed from, in order, unreadable ones included.
        corpus: the packed audio; utterance ``i`` of it is utterance ``i`` of the store.
        sample_rate: of the corpus, in hertz.

    Raises:
        MissingFileError: the directory has no features, or those of an utterance are missing.
        CheckpointError: the features are not of this audio: an utterance is longer or shorter.
    """

    def __init__(self, directory: Path, data: str, files: Sequence[Path], corpus: Corpus, sample_rate: int) -> None:
        again = "extract the features again with python -m training.teachers"
        if not (directory / DESCRIPTION_NAME).is_file():
            raise MissingFileError(f"there is no file {directory / DESCRIPTION_NAME}; {again}")
        self.description = _read_description(directory / DESCRIPTION_NAME)
        self.sample_rate = sample_rate
        shards, places = [], {}
        for path in sorted(directory.glob("[0-9]*.json")):
            shards.append(path.with_suffix(".npy"))
            for name, place in json.loads(path.read_text())["utterances"].items():
                places[name] = (len(shards) - 1, place["first"], place["frames"], place["samples"])
        root, skipped = data_root(data), set(corpus.skipped)
        names = [_name(file, root) for file in files if str(file) not in skipped]
        if len(names) != len(corpus):
            raise CheckpointError(
                f"{len(names)} files for the {len(corpus)} utterances of the corpus; expected the files that it was "
                "packed from"
            )
        tolerance = 1 / sample_rate + 1 / self.description.sample_rate  # both lengths were rounded up to a sample
        self._shards, self._places = shards, []
        self._opened: dict[int, np.ndarray] = {}
        for name, samples in zip(names, np.diff(corpus.offsets), strict=True):
            if name not in places:
                raise MissingFileError(f"{directory} has no features of {name}, which {data} lists; {again}")
            seconds, stored = samples / sample_rate, places[name][3] / self.description.sample_rate
            if abs(seconds - stored) > tolerance:
                raise CheckpointError(
                    f"{directory} has features of {stored:.4f} s of {name}, which now is {seconds:.4f} s; {again}"
                )
            self._places.append(places[name][:3])

    def __len__(self) -> int:
        return len(self._places)

    @property
    def dim(self) -> int:
        """Width ``D``."""
        return self.description.dim

    def __getitem__(self, index: int) -> np.ndarray:
        """All features of an utterance as the teacher made them: float16 ``(T, D)``, memory-mapped."""
        shard, first, frames = self._places[index]
        if shard not in self._opened:
            while len(self._opened) >= MOST_OPEN:
                del self._opened[next(iter(self._opened))]
            self._opened[shard] = np.load(self._shards[shard], mmap_mode="r")
        return self._opened[shard][first : first + frames]

    def crop(self, index: int, start: int, frames: int, hop_length: float, delay: int = 0) -> Tensor:
        """Features in the middle of ``frames`` tokenizer frames of ``hop_length`` samples, or of those before them.

        Args:
            index: utterance of the corpus.
            start: first sample of the crop, counted from the utterance's own first.
            frames: ``T``. Frames past the utterance's end get its last features.
            hop_length: samples a frame, at the corpus's rate.
            delay: frames before. What is before the utterance's start gets its first features.

        Returns:
            Float32 ``(T, D)``.
        """
        stored = self[index]
        rate, offset = self.description.frame_rate, self.description.offset
        times = frame_centres(frames, hop_length, self.sample_rate, start - delay * hop_length)
        bounds = ((times[[0, -1]] - offset) * rate).clamp(0, len(stored) - 1)
        low, high = int(bounds[0]), int(bounds[1]) + 2
        piece = torch.from_numpy(np.asarray(stored[low:high], np.float32))
        return align(piece[None], rate, offset + low / rate, times)[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, metavar="SPEC", help="which teacher; see above")
    parser.add_argument("--layer", default=AVERAGE, help="a layer counted from 1, average (default), or phones")
    parser.add_argument("--data", required=True, help="manifest, folder with train.jsonl, or folder of audio")
    parser.add_argument("--out", required=True, type=Path, help="folder for the features")
    parser.add_argument("--device", default="cpu", help="where the teacher computes")
    parser.add_argument("--workers", type=int, default=0, help="processes (0: this one)")
    parser.add_argument(
        "--aligned",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the manifest's own phones, with --layer phones",
    )
    arguments = parser.parse_args(argv)
    layer: Layer = int(arguments.layer) if arguments.layer.isdecimal() else arguments.layer
    try:
        teacher = load_teacher(arguments.teacher, layer)
        count, skipped = extract(
            teacher,
            arguments.teacher,
            arguments.data,
            arguments.out,
            arguments.device,
            arguments.aligned,
            arguments.workers,
        )
    except SpeechtokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if skipped:
        print(f"skipped {len(skipped)} files that could not be read, such as {skipped[0]}")
    print(f"{arguments.out} has the features of {count} utterances")
    return 0


if __name__ == "__main__":
    sys.exit(main())
