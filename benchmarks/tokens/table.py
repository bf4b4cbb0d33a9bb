"""Results as Markdown."""

import math
from collections.abc import Mapping

from benchmarks.report.data import short_specs
from benchmarks.tokens.measures import Row


def tokens_table(rows: Mapping[str, Row]) -> str:
    """Results as Markdown: one table of bits, one of edit distances. Columns that nobody measured are left out."""
    short = short_specs(rows)
    columns = {
        "bits": ("nominal, bit/s", 1, 0),
        "order_0_bits": ("order 0, bit/s", 1, 0),
        "contexts_bits": ("contexts, bit/s", 1, 0),
        "model_bits": ("language model, bit/s", 1, 0),
        "words": ("words preferred, %", 100, 1),
    }
    used = {key: column for key, column in columns.items() if any(key in row for row in rows.values())}
    parts = []
    if used:
        lines = [" | ".join(["| codes", *(title for title, _, _ in used.values())]) + " |"]
        lines.append("|---" * (1 + len(used)) + "|")
        for spec, row in rows.items():
            cells = [_cell(row.get(key), factor, digits) for key, (_, factor, digits) in used.items()]
            lines.append(f"| {short[spec]} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    if any("edit_distance" in row for row in rows.values()):
        names = list(next(row["edit_distance"] for row in rows.values() if "edit_distance" in row))
        lines = [f"| unit edit distance, % | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
        for spec, row in rows.items():
            for key, title in (("codebook_0", "codebook 0"), ("all", "all codebooks")):
                cells = [_cell(row.get("edit_distance", {}).get(name, {}).get(key), 100, 1) for name in names]
                lines.append(f"| {short[spec]}, {title} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(value: float | None, factor: float, digits: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{factor * value:.{digits}f}"
