"""The journal: results on disk, so that an interrupted evaluation continues where it stopped."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import speechtok
from benchmarks.evaluation.scoring import Result
from training.manifest import Utterance


def result_key(utterance: Utterance, facts: list[Any]) -> str:
    """Key of a result: a hash of the utterance, its audio file, and further facts that the scores depend on.

    Args:
        utterance: the utterance.
        facts: plain values, ready for JSON.
    """
    return hashlib.sha256(json.dumps([*facts, *_describe(utterance)], sort_keys=True).encode()).hexdigest()


def _describe(utterance: Utterance) -> list[Any]:
    try:
        status = utterance.audio.stat()
    except OSError:
        return [utterance.id, "missing"]
    path = str(utterance.audio.resolve())
    return [utterance.id, path, status.st_size, status.st_mtime_ns, utterance.text, utterance.lang]


def hash_sources(*further: Path) -> str:
    """Hash of the source code that scores depend on, and of further files."""
    benchmarks, package = Path(__file__).parents[1], Path(str(speechtok.__file__)).parent
    files = [file for part in ("codecs", "evaluation", "metrics") for file in sorted((benchmarks / part).glob("*.py"))]
    for pattern in ("*.py", "codecs/*.py", "media/**/*.py", "nn/**/*.py", "nn/**/*.c"):
        files += sorted(package.glob(pattern))
    return hashlib.sha256(b"".join(file.read_bytes() for file in [*files, *further])).hexdigest()


def read_journal(journal: Path | None) -> dict[str, Result]:
    """Results by key. Lines that cannot be read, such as one cut off by an interruption, are ignored."""
    if journal is None or not journal.is_file():
        return {}
    results = {}
    for line in journal.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
            scores = {
                name: (float(value), float(weight)) for name, (value, weight) in row["result"].pop("scores").items()
            }
            results[row["key"]] = Result(**row["result"], scores=scores)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return results


def append_result(journal: Path, key: str, result: Result) -> None:
    """Append one result. The line break comes first, in case the last line was cut off."""
    with journal.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"key": key, "result": asdict(result)}))
