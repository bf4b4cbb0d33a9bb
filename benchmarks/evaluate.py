"""Codecs and metrics over a manifest: in parallel, resumable, with the same numbers by any number of workers.

Every utterance is scored by itself, on one thread, in a worker process that has its own codecs. What is done is
appended to a journal; a second run takes from it what was made of the same file by the same codec, metrics and
libraries.
"""

import contextlib
import hashlib
import json
import math
import multiprocessing
import multiprocessing.context
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import speechtok
from benchmarks.codecs import Codec, load_codec
from benchmarks.metrics import RATE, Metric, Speech, Value, load_metrics, versions
from speechtok.audio import resample
from speechtok.errors import InputError, SpeechtokError

DELAY_UTTERANCES = 8
"""The first utterances, which tell the delay of a codec."""

MOST_DELAY = RATE // 10
"""Samples at 16 kHz that a codec may be late."""


@dataclass(frozen=True)
class Item:
    """One line of a manifest.

    Attributes:
        id: its ``id``, or its ``audio`` if it has none.
        path: of the audio.
        text: that is spoken, if known.
        language: as in ``en``, if known.
        speaker: if known.
    """

    id: str
    path: Path
    text: str | None = None
    language: str | None = None
    speaker: str | None = None


@dataclass(frozen=True)
class Result:
    """What one codec made of one utterance.

    Attributes:
        item: id of the utterance.
        codec: its specification.
        seconds: of the utterance.
        bits: that it became.
        scores: of each metric, value and weight.
        codes: ``(Q, T)`` as lists, of codecs that have codebooks.
        failure: why there are no scores.
    """

    item: str
    codec: str
    seconds: float = 0.0
    bits: float = 0.0
    scores: dict[str, Value] = field(default_factory=dict)
    codes: list[list[int]] | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Settings:
    """What is measured: every worker process gets a copy.

    Attributes:
        codecs: specifications.
        metrics: names.
        recogniser: of the word error rate.
        delays: of each codec, in samples at 16 kHz.
    """

    codecs: tuple[str, ...]
    metrics: tuple[str, ...]
    recogniser: str
    delays: dict[str, int]


def read_items(data: str) -> list[Item]:
    """Lines of a manifest, or of ``test.jsonl`` in a folder.

    Raises:
        InputError: there is no such manifest, or a line of it is no JSON with an ``audio`` path, or two have one id.
    """
    path = Path(data)
    path = path / "test.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"--data is {data!r}; expected a manifest, or a folder with test.jsonl")
    items: dict[str, Item] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            audio = str(row["audio"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}, line {number} is {line[:80]!r}; expected JSON with an 'audio' path") from error
        item = Item(
            str(row.get("id") or audio), path.parent / audio, row.get("text"), row.get("lang"), row.get("speaker")
        )
        if item.id in items:
            raise InputError(f"{path}, line {number} has the id {item.id!r} a second time; expected one for each")
        items[item.id] = item
    if not items:
        raise InputError(f"{path} has no line; expected an utterance a line")
    return list(items.values())


def align(original: Tensor, decoded: Tensor, delay: int) -> tuple[Tensor, Tensor]:
    """The parts of ``(S,)`` and ``(S',)`` that stand for the same time, equally long.

    Args:
        original: the original.
        decoded: what became of it, ``delay`` samples late.
        delay: may be negative.
    """
    original, decoded = original[max(0, -delay) :], decoded[max(0, delay) :]
    length = min(len(original), len(decoded))
    return original[:length], decoded[:length]


def find_delay(pairs: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Samples that decoded waveforms are late, one number for all: where their cross-correlations, each divided by the
    energies, have the largest sum (or least, if the codec turns waveforms over). 0 without anything to go by.
    """
    total = np.zeros(2 * MOST_DELAY + 1)
    for original, decoded in pairs:
        if not original.any() or not decoded.any():
            continue
        x, y = original.double(), decoded.double()
        size = 2 ** math.ceil(math.log2(len(x) + len(y) + MOST_DELAY))
        spectrum = torch.fft.rfft(y, size) * torch.fft.rfft(x, size).conj()
        correlation = torch.fft.irfft(spectrum, size) / (x.norm() * y.norm())
        total += torch.cat([correlation[-MOST_DELAY:], correlation[: MOST_DELAY + 1]]).numpy()
    best = int(np.argmax(np.abs(total)))
    return best - MOST_DELAY if abs(total[best]) > abs(total[MOST_DELAY]) + 1e-9 else 0


def code(codec: Codec, waveform: Tensor, sample_rate: int) -> tuple[Tensor, float, np.ndarray | None]:
    """Waveform at 16 kHz, bits and codes that a codec makes of ``(S,)`` at any rate.

    Raises:
        InputError: it gives no usable waveform.
    """
    coded = codec(resample(waveform[None], sample_rate, codec.sample_rate)[0])
    decoded = coded.waveform.detach().float()
    if decoded.ndim != 1 or not len(decoded) or not decoded.isfinite().all():
        raise InputError(
            f"the codec gave {tuple(decoded.shape)}, not all of it finite or none; expected a waveform (S,)"
        )
    return resample(decoded[None], codec.sample_rate, RATE)[0].clamp(-1, 1), coded.bits, coded.codes


class Evaluation:
    """Scores one utterance after another; every worker process has its own."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self.settings = settings
        self.codecs: dict[str, Codec] = {spec: load_codec(spec) for spec in settings.codecs}
        self.metrics = load_metrics(settings.metrics, settings.recogniser)

    def __call__(self, item: Item, specs: Sequence[str], slow: bool) -> list[Result]:
        """Results of some of the codecs, with the slow metrics or without."""
        try:
            waveform, sample_rate = speechtok.read_audio(item.path)
            if not len(waveform):
                raise InputError(f"{item.path} has no samples; expected at least one")
        except (SpeechtokError, OSError, RuntimeError) as error:
            return [Result(item.id, spec, failure=str(error)) for spec in specs]
        whole = resample(waveform[None], sample_rate, RATE)[0]
        shared = Speech(whole, item.text, item.language)
        results = []
        for spec in specs:
            seconds = len(waveform) / sample_rate
            try:
                decoded, bits, codes = code(self.codecs[spec], waveform, sample_rate)
                before, after = align(whole, decoded, self.settings.delays[spec])
                if not len(before):
                    raise InputError(f"nothing is left of {len(decoded)} samples after the codec's delay")
                original = shared if len(before) == len(whole) else Speech(before, item.text, item.language)
                copy = original if torch.equal(before, after) else Speech(after.contiguous())
                scores = {
                    name: metric.measure(original, copy)
                    for name, metric in self.metrics.items()
                    if not metric.absent and (slow or not metric.slow)
                }
                grid = None if codes is None else codes.tolist()
                results.append(Result(item.id, spec, seconds, bits, scores, grid))
            except Exception as error:  # codecs and libraries of others raise anything; the rest is to be done
                results.append(Result(item.id, spec, seconds, failure=f"{type(error).__name__}: {error}"))
        return results


_evaluation: Evaluation


Task = tuple[Item, tuple[str, ...], bool]
"""An utterance, the codecs to code it by, and whether slow metrics are measured."""


def _start_worker(settings: Settings) -> None:
    global _evaluation
    _evaluation = Evaluation(settings)


def _score(task: Task) -> list[Result]:
    return _evaluation(*task)


def usable_codecs(specs: Sequence[str]) -> tuple[dict[str, Codec], dict[str, str]]:
    """Codecs by specification, and why others cannot be used."""
    codecs, failures = {}, {}
    for spec in dict.fromkeys(specs):
        try:
            codecs[spec] = load_codec(spec)
        except (SpeechtokError, ImportError) as error:
            failures[spec] = str(error)
    return codecs, failures


def usable_metrics(names: Sequence[str], recogniser: str) -> tuple[dict[str, Metric], dict[str, str]]:
    """Metrics by name, and why others cannot be measured."""
    metrics, failures = {}, {}
    for name in dict.fromkeys(names):
        try:
            metric = load_metrics([name], recogniser)[name]
        except SpeechtokError as error:
            failures[name] = str(error)
            continue
        if metric.absent:
            failures[name] = f"absent: {metric.absent}"
        else:
            metrics[name] = metric
    return metrics, failures


def measure_delays(codecs: dict[str, Codec], items: Sequence[Item]) -> dict[str, int]:
    """Of each codec, by the first utterances that can be read: samples at 16 kHz."""
    waveforms = []
    for item in items:
        try:
            waveforms.append(speechtok.read_audio(item.path))
        except (SpeechtokError, OSError, RuntimeError):
            continue  # it is named when it is its turn
        if len(waveforms) == DELAY_UTTERANCES:
            break
    delays = {}
    for spec, codec in tqdm(codecs.items(), desc="delays", unit="codec"):
        pairs = []
        for waveform, rate in waveforms:
            try:
                pairs.append((resample(waveform[None], rate, RATE)[0], code(codec, waveform, rate)[0]))
            except Exception:  # as above: named when it is its turn
                continue
        delays[spec] = find_delay(pairs)
    return delays


def slow_items(items: Sequence[Item], count: int) -> set[str]:
    """Ids of at most ``count`` utterances, evenly spread over the manifest."""
    return {items[int(place)].id for place in np.linspace(0, len(items) - 1, min(count, len(items))).round()}


def evaluate(
    items: Sequence[Item],
    codecs: dict[str, Codec],
    metrics: dict[str, Metric],
    recogniser: str,
    delays: dict[str, int],
    slow: set[str],
    workers: int,
    journal: Path | None = None,
) -> list[Result]:
    """Score every utterance by every codec.

    Args:
        items: utterances.
        codecs: by specification.
        metrics: by name.
        recogniser: of the word error rate.
        delays: of each codec, in samples at 16 kHz.
        slow: ids of the utterances that slow metrics are measured on.
        workers: processes.
        journal: file that results are appended to, and taken from if they are there.

    Returns:
        Results by utterance, then codec, in the order of the arguments.
    """
    settings = Settings(tuple(codecs), tuple(metrics), recogniser, delays)
    common = [sorted(metrics), recogniser, versions(metrics), torch.__version__, _sources()]
    keys = {
        (item.id, spec): _digest([*common, codec.identity, delays[spec], item.id in slow, *_facts(item)])
        for item in items
        for spec, codec in codecs.items()
    }
    done = _read_journal(journal)
    results = {pair: done[key] for pair, key in keys.items() if key in done}
    tasks = []
    for item in items:
        missing = tuple(spec for spec in codecs if (item.id, spec) not in results)
        if missing:
            tasks.append((item, missing, item.id in slow))
    tasks.sort(key=lambda task: not task[2])  # the longest first, so that no worker waits for another at the end
    if tasks:
        with tqdm(total=len(items), initial=len(items) - len(tasks), desc="measuring", unit="file") as bar:
            for found in _scores(tasks, settings, workers):
                for result in found:
                    results[result.item, result.codec] = result
                    if journal and result.failure is None:
                        _append(journal, keys[result.item, result.codec], result)
                bar.update()
    return [results[item.id, spec] for item in items for spec in codecs]


def _scores(tasks: Sequence[Task], settings: Settings, workers: int) -> Iterator[list[Result]]:
    """Results of each task, in order. Where a process dies, only what it died of fails."""
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    waiting = deque(tasks)
    with _one_thread_in_new_processes():
        yield from _scores_of(waiting, settings, workers, context)


def _scores_of(
    waiting: deque[Task], settings: Settings, workers: int, context: multiprocessing.context.SpawnContext
) -> Iterator[list[Result]]:
    while waiting:
        under_way: deque[tuple[Task, Future[list[Result]]]] = deque()
        suspects: list[Task] = []
        with ProcessPoolExecutor(min(workers, len(waiting)), context, _start_worker, (settings,)) as pool:
            try:
                while waiting or under_way:
                    while waiting and len(under_way) < 16 * workers:  # enough to go on with beside a slow one
                        under_way.append((waiting[0], pool.submit(_score, waiting[0])))
                        waiting.popleft()
                    yield under_way[0][1].result()
                    under_way.popleft()
            except BrokenProcessPool:  # by one of these: each again, by itself
                suspects = [task for task, _ in under_way]
        for item, specs, slow in suspects:
            yield [_score_alone((item, (spec,), slow), settings, context) for spec in specs]


@contextlib.contextmanager
def _one_thread_in_new_processes() -> Iterator[None]:
    """Libraries of linear algebra read these when they are loaded; threads of several workers would wait for each other
    most of the time.
    """
    names = "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _score_alone(task: Task, settings: Settings, context: multiprocessing.context.SpawnContext) -> Result:
    item, (spec,), _ = task
    with ProcessPoolExecutor(1, context, _start_worker, (settings,)) as pool:
        try:
            return pool.submit(_score, task).result()[0]
        except BrokenProcessPool:
            return Result(item.id, spec, failure="its process died: of a fault in native code, or for want of memory")


def _facts(item: Item) -> list[Any]:
    try:
        status = item.path.stat()
    except OSError:
        return [item.id, "missing"]
    return [item.id, str(item.path.resolve()), status.st_size, status.st_mtime_ns, item.text, item.language]


def _sources() -> str:
    """Digest of the code that scores depend on."""
    here, package = Path(__file__).parent, Path(str(speechtok.__file__)).parent
    files = [here / name for name in ("codecs.py", "evaluate.py", "metrics.py")]
    files += sorted([*package.glob("*.py"), *package.glob("nn/*.py"), *package.glob("nn/*.c")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _digest(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read_journal(journal: Path | None) -> dict[str, Result]:
    if journal is None or not journal.is_file():
        return {}
    done = {}
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            scores = {
                name: (float(value), float(weight)) for name, (value, weight) in row["result"].pop("scores").items()
            }
            done[row["key"]] = Result(**row["result"], scores=scores)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # the line that was being written when the run was stopped: it is done again
    return done


def _append(journal: Path, key: str, result: Result) -> None:
    with journal.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"key": key, "result": asdict(result)}))  # first the end of a line cut short
