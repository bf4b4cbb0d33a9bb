"""Measurements of many cases, in several processes, resumed where they stopped."""

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

import speechtok
from benchmarks.evaluation.journal import append_result, hash_sources, read_journal, result_key
from benchmarks.evaluation.scoring import Result
from benchmarks.metrics.load import load_metrics, versions
from benchmarks.metrics.metric import Metric
from benchmarks.metrics.recognisers import identity
from benchmarks.voice import measures
from benchmarks.voice.cases import Case, Voice
from benchmarks.voice.measures import METRICS
from benchmarks.voice.studio import Studio
from speechtok.convnext import ConvNeXtTokenizer
from speechtok.hashing import hash_tensors
from speechtok.voice.generation import Sampling
from speechtok.voice.model import VoiceModel
from training.tokenizer import load_tokenizer

Part = Literal["resynthesis", "conversion", "style", "ablation"]


@dataclass(frozen=True)
class Settings:
    """What is measured. Every worker process receives a copy.

    Attributes:
        tokenizer: name or folder; the default one if empty.
        voice_model: file; the one of the package if ``None``.
        recognisers: for word errors.
        absent: metrics that cannot be measured on this machine.
        sampling: how the voice model draws.
        seed: of its noise.
    """

    tokenizer: str
    voice_model: str | None
    recognisers: tuple[str, ...]
    absent: tuple[str, ...] = ()
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    seed: int = 0


@dataclass(frozen=True)
class Task:
    """One measurement.

    Attributes:
        part: what is measured.
        case: on what.
        slow: whether words are recognised.
        voices: to which an utterance is converted.
    """

    part: Part
    case: Case
    slow: bool = False
    voices: tuple[Voice, ...] = ()


class Bench:
    """Measures on one thread.

    Args:
        studio: with the tokenizer and the voice model.
        metrics: by name.
    """

    def __init__(self, studio: Studio, metrics: dict[str, Metric]) -> None:
        self.studio, self.metrics = studio, metrics

    def __call__(self, task: Task) -> Result:
        """Measure; an error is a result, too."""
        source, case = task.case.source, task.case
        run: dict[Part, Callable[[], measures.Scores]] = {
            "resynthesis": lambda: measures.resynthesis(self.studio, case, self.metrics, task.slow),
            "conversion": lambda: measures.conversion(self.studio, case, task.voices, self.metrics, task.slow),
            "style": lambda: measures.style(self.studio, case),
            "ablation": lambda: measures.ablation(self.studio, case, self.metrics, task.slow),
        }
        try:
            return Result(source.id, task.part, scores=run[task.part]())
        except Exception as error:  # libraries of other projects raise anything
            return Result(source.id, task.part, failure=f"{type(error).__name__}: {error}")


def make_bench(settings: Settings) -> Bench:
    """Load everything."""
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(settings.tokenizer)
    model = VoiceModel(tokenizer, settings.voice_model)
    metrics = load_metrics(METRICS, settings.recognisers)
    studio = Studio(tokenizer, model, settings.sampling, settings.seed)
    return Bench(studio, {name: metric for name, metric in metrics.items() if name not in settings.absent})


def identify(tokenizer: ConvNeXtTokenizer, model: VoiceModel) -> list[str]:
    """Hashes of all weights."""
    weights = hash_tensors(dataclasses.asdict(model.config), model.network.state_dict())
    return [tokenizer.fingerprint, tokenizer.decoder_fingerprint, weights]


def measure_all(
    tasks: Sequence[Task],
    bench: Bench,
    settings: Settings,
    identities: Sequence[str],
    journal: Path | None = None,
    workers: int = 1,
) -> list[Result]:
    """Measure all tasks that the journal does not have, and keep their results there.

    Args:
        tasks: what to measure.
        bench: for one process.
        settings: for several processes.
        identities: of the weights; see :func:`identify`.
        journal: file to append results to and to reuse results from.
        workers: number of processes.

    Returns:
        Results in the order of the tasks.
    """
    judges = [identity(name) for name in settings.recognisers]
    common = [measures.VERSION, *identities, judges, versions(bench.metrics), sorted(bench.metrics), torch.__version__]
    common += [dataclasses.asdict(settings.sampling), settings.seed, hash_sources(*_sources())]
    keys = [result_key(task.case.source, [*common, *_facts(task)]) for task in tasks]
    known = read_journal(journal)
    found = {index: known[key] for index, key in enumerate(keys) if key in known}
    missing = {index: task for index, task in enumerate(tasks) if index not in found}
    if missing:
        done = _in_turn(missing, bench) if workers == 1 else _in_processes(missing, settings, workers)
        for index, result in tqdm(done, total=len(tasks), initial=len(found), desc="measuring", unit="case"):
            found[index] = result
            if journal is not None and result.failure is None:
                append_result(journal, keys[index], result)
    return [found[index] for index in range(len(tasks))]


def _in_turn(tasks: dict[int, Task], bench: Bench) -> Iterator[tuple[int, Result]]:
    for index, task in tasks.items():
        yield index, bench(task)


def _in_processes(tasks: dict[int, Task], settings: Settings, workers: int) -> Iterator[tuple[int, Result]]:
    context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _start, (settings,)) as pool:
        running = {pool.submit(_measure, task): index for index, task in tasks.items()}
        for future in as_completed(running):
            yield running[future], future.result()


_bench: Bench


def _start(settings: Settings) -> None:
    global _bench
    _bench = make_bench(settings)


def _measure(task: Task) -> Result:
    return _bench(task)


def _facts(task: Task) -> list[Any]:
    """What the result depends on, beside the utterance."""
    case = task.case
    voices = [case.voice, *([] if case.wrong is None else [case.wrong]), *task.voices]
    audio = [[v.speaker, *([u.id, str(u.audio)] for u in (*v.prompts, *v.others))] for v in voices]
    return [task.part, task.slow, case.wrong is not None, audio]


def _sources() -> list[Path]:
    """Files that scores depend on, beside those of all benchmarks."""
    names = ("cases", "measures", "studio", "tasks")
    package = Path(str(speechtok.__file__)).parent / "voice"
    return [*(Path(__file__).with_name(f"{name}.py") for name in names), *sorted(package.glob("*.py"))]
