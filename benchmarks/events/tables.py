"""The results of the benchmark as tables."""

from typing import Any


def write_tables(results: dict[str, Any]) -> str:
    """Markdown."""
    parts = [
        f"Tokenizer `{results['tokenizer']}`; {results['utterances'][0]} utterances to choose thresholds on, "
        f"{results['utterances'][1]} to test on.",
        speech_table(results["speech"]),
        overlap_table(results["overlap"]),
        *(turn_table(name, rows) for name, rows in results["turns"].items()),
        price_table(results["price"]),
    ]
    return "\n\n".join(parts) + "\n"


def speech_table(scores: dict[str, Any]) -> str:
    """AUC, and F1 at the threshold 0.5 and at the one chosen on dev, for each SNR."""
    conditions = list(next(iter(scores.values())))
    lines = [
        "| speech | " + " | ".join(f"{c}: AUC | F1 at 0.5 | F1" for c in conditions) + " | threshold |",
        "|---|" + "---|" * (3 * len(conditions) + 1),
    ]
    for name, row in scores.items():
        cells = [f"{s['auc']:.4f} | {s['f1']:.3f} | {s['f1_chosen']:.3f}" for s in row.values()]
        threshold = next(iter(row.values()))["threshold"]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {threshold:.2f} |")
    return "\n".join(lines)


def overlap_table(row: dict[str, float]) -> str:
    """AUC and F1 of overlap."""
    return (
        "| overlap | AUC | F1 at 0.5 | F1 | threshold |\n|---|---|---|---|---|\n"
        f"| speechtok | {row['auc']:.4f} | {row['f1']:.3f} | {row['f1_chosen']:.3f} | {row['threshold']:.2f} |"
    )


def turn_table(name: str, rows: list[dict[str, Any]]) -> str:
    """Turns cut off by the policies and by timers of the same mean delay."""
    timers = list(rows[0]["timers"])
    lines = [
        f"| {name}: delay wanted, ms | threshold | shortest and longest silence, ms | mean delay, ms | cut off | "
        + " | ".join(f"timer, {t}" for t in timers)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(timers),
    ]
    for row in rows:
        policy = row["policy"]
        cells = [
            f"{1000 * row['wanted']:.0f}",
            f"{policy['threshold']:.2f}",
            f"{20 * policy['min_delay']}, {20 * policy['max_delay']}",
            f"{1000 * row['delay']:.0f}",
            f"**{100 * row['cut_off']:.1f} %**",
            *(f"{100 * row['timers'][t]['cut_off']:.1f} %" for t in timers),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def price_table(prices: dict[str, float]) -> str:
    """Percent more CPU time."""
    lines = ["| encoding with events | CPU time, % more |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {percent:.1f} |" for name, percent in prices.items())])
