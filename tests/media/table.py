"""Write the table of file kinds into the page "Audio files": ``python -m tests.media.table``."""

from pathlib import Path

from tests.media.kinds import KINDS, WHOLE, Kind

PAGE = Path(__file__).parents[2] / "docs" / "audio-files.md"
START, END = "<!-- table of kinds: python -m tests.media.table -->\n", "<!-- end of the table of kinds -->\n"


def table() -> str:
    """The table as Markdown."""
    lines = ["| format | condition | outcome | read by |", "|---|---|---|---|"]
    return "\n".join(lines + [_row(kind) for kind in KINDS]) + "\n"


def _row(kind: Kind) -> str:
    decoder = "FFmpeg" if kind.needs_ffmpeg else "libsndfile"
    if kind.outcome == WHOLE:
        return f"| {kind.format} | {kind.condition} | whole | {decoder} |"
    reason = kind.outcome.replace(".moov.", "(moov)").replace("|", " or ").removeprefix("is ")
    return f"| {kind.format} | {kind.condition} | error: {reason} | |"


def embedded(page: str) -> str:
    """The table that a page has."""
    return page.partition(START)[2].partition(END)[0].strip() + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    PAGE.write_text(f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
