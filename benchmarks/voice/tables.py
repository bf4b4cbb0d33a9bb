"""The results as Markdown."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.bootstrap import Estimate
from benchmarks.voice.measures import ALONE, COMPLETED, CONTOUR, SOURCE, TRUE, TWO, WRONG
from benchmarks.voice.speed import Speed
from benchmarks.voice.summary import CLOSE_PITCH, Target
from speechtok.voice.style import NUM_STEPS

TITLE = "Voice model"

VERSIONS = (SOURCE, TRUE, TWO, ALONE, COMPLETED, WRONG, CONTOUR)

_DIGITS = {"dnsmos": 3, "comb": 2}
_TITLES = {
    "speaker": "speaker similarity",
    "pitch": "mean F0 over the prompt's, semitones",
    "pitch_pyin": "mean F0 over the prompt's by pYIN, semitones",
    "voicing_f1": "voicing F1",
    "f0_correlation": "F0 correlation",
    "f0_pyin": "F0 correlation by pYIN",
    "dnsmos": "DNSMOS",
    "comb": "comb excess, dB",
    "wer": "word error rate",
}
_Value = Estimate | float | None


def sections(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Headings and their Markdown."""
    parts = [("Targets", target_table(found["targets"]))]
    if "resynthesis" in found:
        parts.append(("Resynthesis", resynthesis_table(found["resynthesis"])))
    if "conversion" in found:
        parts.append(("Conversion", conversion_table(found["conversion"])))
    if "style" in found:
        parts.append(("Style", style_table(found["style"])))
    if "speed" in found:
        parts.append(("Speed", speed_table(found["speed"])))
    if "ablation" in found:
        parts.append(("Ablation", ablation_table(found["ablation"])))
    return [*parts, ("Run", facts(found))]


def markdown(found: Mapping[str, Any]) -> str:
    """The whole report."""
    return "\n\n".join([f"# {TITLE}", *(f"## {heading}\n\n{text}" for heading, text in sections(found))]) + "\n"


def facts(found: Mapping[str, Any]) -> str:
    """What was measured, and how, as a list."""
    counts, sampling = found["counts"], found["sampling"]
    lines = [
        f"`{found['command']}`",
        f"{counts['utterances']} utterances of {counts['speakers']} speakers; {counts['left_out']} speakers with fewer "
        f"than {counts['needed']} utterances and {counts['unnamed']} utterances without a speaker are left out",
        f"{counts['without_gender']} speakers have no gender in the manifest; they count as one gender",
        "intervals: 95 %, bootstrap over speakers",
        f"tokenizer `{found['tokenizer']}`, voice model `{found['voice_model']}` of {found['parameters']} parameters",
        f"sampling: {', '.join(f'{name} {value:g}' for name, value in sampling.items())}; seed {found['seed']}",
        found["machine"],
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        *(f"left out: {name}: {reason}" for name, reason in found["absent"].items()),
        *(f"failed: {name}: {reason}" for name, reason in found["failures"].items()),
    ]
    return "\n".join(f"- {line}" for line in lines)


def target_table(rows: Sequence[Target]) -> str:
    """Results beside what they shall be."""
    words = {True: "yes", False: "**no**", None: "not measured"}
    return _table(
        ["", "result (95 %)", "target", "reached"],
        [[row.title, _cell(row.value), row.target, words[row.reached]] for row in rows],
    )


def resynthesis_table(part: Mapping[str, Any]) -> str:
    """Measures of all versions, and what they say about the voice."""
    measures = part["measures"]
    versions = [version for version in VERSIONS if any(version in row for row in measures.values())]
    rows = [
        [_title(name), *(_cell(row.get(version), _digits(name)) for version in versions)]
        for name, row in measures.items()
    ]
    for title, name, digits in (
        ("mean F0 and the prompt's, semitones apart", "pitch_distance", 2),
        (f"at most {CLOSE_PITCH:g} semitones apart, share", "pitch_close", 3),
    ):
        for measure, row in part[name].items():
            by = "" if measure == "pitch" else ", by pYIN"
            rows.append([f"{title}{by}", *(_cell(row.get(version), digits) for version in versions)])
    lines = [
        ["gap from codebook 0 alone to the recording closed", _cell(part["gap_closed"])],
        ["gap closed by the true codes", _cell(part["gap_closed_by_true_codes"])],
        ["right prompt beats wrong prompt, share", _cell(part["beats_wrong_prompt"])],
    ]
    than = {"wer": TWO}
    lines += [
        [f"{_title(name)}: completed over {than.get(name.partition('@')[0], TRUE)}", _cell(value, _digits(name))]
        for name, value in part["differences"].items()
    ]
    text = (
        "Speaker similarity is the mean over other recordings of the speaker; that of the recording itself is the "
        "ceiling. Pitch, voicing, quality and artefacts are compared with the recording."
    )
    return f"{_table(['', *versions], rows)}\n\n{text}\n\n{_table(['', 'completed (95 %)'], lines)}"


def conversion_table(part: Mapping[str, Any]) -> str:
    """Shares for all and for each voice, and word errors."""
    rows = [["all", _cell(part["nearer_to_prompt"]), _cell(part["nearer_to_speaker"]), *["–"] * 4]]
    names = ("prompt", "source", "speaker of the prompt", "speaker of the source")
    rows += [
        [
            voice,
            _cell(row["nearer_to_prompt"]),
            _cell(row["nearer_to_speaker"]),
            *(_cell(row[name]) for name in names),
        ]
        for voice, row in part["voices"].items()
    ]
    head = ["voice", "nearer to the prompt than to the source, share"]
    head += ["nearer to other recordings of the new speaker than of the old one, share"]
    head += [f"similarity to the {name}" for name in names]
    tables = [_table(head, rows)]
    if part["words"]:
        versions = (SOURCE, TWO, "converted")
        words = [[_title(name), *(_cell(row[v]) for v in versions)] for name, row in part["words"].items()]
        tables.append(_table(["", *versions], words))
    return "\n\n".join(tables)


def style_table(part: Mapping[str, Any]) -> str:
    """Rank correlations, and the mean of what was measured at each step."""
    steps = [str(step) for step in range(1, NUM_STEPS + 1)]
    rows = [
        [
            quantity,
            _cell(row["correlation"]),
            _cell(row["within"]),
            *(_number(value.mean, 1) for value in row["measured"]),
        ]
        for quantity, row in part.items()
    ]
    return _table(["", "rank correlation (95 %)", "within an utterance", *(f"step {step}" for step in steps)], rows)


def speed_table(speed: Speed) -> str:
    """CPU time, and the time to the first audio."""
    rows = [
        ["CPU time of `complete`, seconds for a second of speech", _number(speed.complete, 3)],
        ["times real time", _number(1 / speed.complete, 1)],
        ["CPU time to open a stream with a prompt, ms", _number(1000 * speed.open, 0)],
        ["semantic codes before the first audio", _number(speed.frames, 0)],
        ["first audio, codes in real time, ms after the first code", _number(1000 * speed.real_time, 0)],
        ["first audio, codes at once, ms", _number(1000 * speed.at_once, 0)],
    ]
    return _table(["", f"median of {speed.utterances} utterances, one thread"], rows)


def ablation_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each setting."""
    known = (
        "setting",
        "steps",
        "guidance",
        "style_guidance",
        "temperature",
        "gap_closed",
        "pitch_distance",
        "cpu",
        "prompt seconds",
    )
    further = [name for name in rows[0] if name not in (*known, "speaker")] if rows else []
    head = ["setting", "speaker similarity", "gap closed", "mean F0, semitones from the prompt's"]
    head += [_title(name) for name in further] + ["prompt, s", "CPU seconds for a second"]
    lines = [
        [
            row["setting"],
            _cell(row["speaker"]),
            _cell(row["gap_closed"], 2),
            _cell(row["pitch_distance"], 2),
            *(_cell(row[name], _digits(name)) for name in further),
            _number(row["prompt seconds"].mean, 1),
            _number(row["cpu"].mean, 3),
        ]
        for row in rows
    ]
    return _table(head, lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("|  |", "| |")


def _title(name: str) -> str:
    kind, _, judge = name.partition("@")
    return f"{_TITLES.get(kind, kind)}{judge and ', '}{judge}"


def _digits(name: str) -> int:
    return _DIGITS.get(name.partition("@")[0], 3)


def _cell(value: _Value, digits: int = 3) -> str:
    if not isinstance(value, Estimate):
        return _number(value, 1)
    mean = _number(value.mean, digits)
    return mean if math.isnan(value.low) else f"{mean} ({_number(value.low, digits)} to {_number(value.high, digits)})"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")
