"""Write the table of licences: ``python -m docs.licences``.

The licences are those that the installed packages state. Run it where all extras are installed, after a change of
``setup.cfg`` or ``constraints.txt``. What is not installed keeps the licence that the page states.
"""

import configparser
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"

CORE = "core"
"""Name of the requirements that every installation has."""

NOTES = {
    "av": "the wheels contain FFmpeg with the encoders x264 and x265 (GPL-2.0-or-later) and libraries under the LGPL",
    "pesq": "the C code of ITU-T P.862 inside has a notice of its own, which restricts its use: see above",
    "soundfile": "the wheels contain libsndfile (LGPL-2.1-or-later)",
    "soxr": "the wheels contain libsoxr (LGPL-2.1-or-later)",
    "torch": "on Linux, PyPI's build installs libraries of NVIDIA under a proprietary licence; the CPU build does not",
    "fairseq2": "requires tbb and tcmlib of Intel, under a proprietary licence",
}
"""What the stated licence of a package does not say."""

HEAD = """# Licences

speechtok and its embedded tokenizers are under the [Apache License 2.0](https://www.apache.org/licenses/LICENSE-2.0).
The libraries that it uses have licences of their own. `python -m docs.licences` writes the tables from what the
packages state; the tables are not legal advice.

Two libraries need attention before a product ships with them. Both are in extras, and speechtok works without them.

**pesq** (extra `bench`) states the MIT licence. The C code inside it is that of ITU-T Recommendation P.862, whose
notice permits a few purposes only, such as understanding and evaluating the algorithm, and forbids external commercial
use of the results. speechtok imports the library only to compute PESQ, and leaves the score out if the
library is not installed. Do not install it, or ask the owners that the notice names, if your use is commercial.

**av** (extras `media` and `bench`) is under a BSD licence, but its wheels contain FFmpeg built with x264 and x265,
which are under the GPL. Using the wheels on your own machines has no conditions. Whoever distributes them, for example
in a container image or an application, must follow the GPL for the whole. Instead, build PyAV against an FFmpeg without
GPL parts (`pip install av --no-binary av`): speechtok needs decoders only.
"""


def direct_requirements() -> dict[str, list[str]]:
    """Packages that ``setup.cfg`` names, with the extras that name them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    groups = {CORE: config["options"]["install_requires"], **config["options.extras_require"]}
    found = defaultdict(list)
    for group, lines in groups.items():
        for line in lines.splitlines():
            if match := re.match(r"[\w.-]+", line):  # comments begin with #
                found[normalize(match[0])].append(group)
    return dict(sorted(found.items()))


def all_packages() -> list[str]:
    """Packages that ``constraints.txt`` names."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return sorted({normalize(line.partition("==")[0]) for line in lines if "==" in line and not line.startswith("#")})


_ELSEWHERE = "of other systems or Python versions than the one where this table was made"


def normalize(name: str) -> str:
    """The name by which package indexes know a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def stated_licence(name: str) -> str | None:
    """Licence that an installed package states, as an SPDX expression where it is a usual one."""
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if expression := found.get("License-Expression"):
        return str(expression)
    field = str(found.get("License") or "").strip().partition("\n")[0]
    classifiers = [text.rpartition(" :: ")[2] for text in found.get_all("Classifier") or [] if "License ::" in text]
    candidates = [*classifiers, field, _first_line_of_licence(name)]
    short = [text for text in candidates if text and len(text) <= 60 and text not in ("UNKNOWN", "OSI Approved")]
    spdx = [_SPDX[text.lower()] for text in [field, *short] if text.lower() in _SPDX]
    return next(iter(spdx or short), "see its files")


def _first_line_of_licence(name: str) -> str:
    files = [
        file for file in metadata.files(name) or [] if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING"))
    ]
    for file in files:
        lines = Path(str(file.locate())).read_text(encoding="utf-8", errors="replace").split("\n")
        for line in map(str.strip, lines):
            if line:
                return line
    return ""


_SPDX = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "bsd": "BSD",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd license": "BSD",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "isc": "ISC",
    "isc license (iscl)": "ISC",
    "mit": "MIT",
    "mit license": "MIT",
    "the mit license (mit)": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl-2.0": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "lgpl": "LGPL",
    "public domain": "public domain",
}


def direct_table(known: dict[str, str]) -> str:
    """Table of the packages that ``setup.cfg`` names."""
    rows = ["| package | needed by | licence | note |", "|---|---|---|---|"]
    for name, groups in direct_requirements().items():
        needed = ", ".join(group if group == CORE else f"`{group}`" for group in groups)
        rows.append(f"| {name} | {needed} | {stated_licence(name) or known.get(name, '')} | {NOTES.get(name, '')} |")
    return "\n".join(rows)


def indirect_table(known: dict[str, str]) -> str:
    """Table of the packages that those need, by licence."""
    direct, by_licence = direct_requirements(), defaultdict(list)
    for name in all_packages():
        if name not in direct:
            by_licence[stated_licence(name) or known.get(name, _ELSEWHERE)].append(name)
    rows = ["| licence | packages |", "|---|---|"]
    rows += [f"| {licence} | {', '.join(names)} |" for licence, names in sorted(by_licence.items())]
    return "\n".join(rows)


def known_licences(page: str) -> dict[str, str]:
    """Licences that a page states."""
    return dict(_known_licences(page))


def _known_licences(page: str) -> Iterator[tuple[str, str]]:
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4:
            yield cells[0], cells[2]
        elif len(cells) == 2:
            yield from ((name, cells[0]) for name in cells[1].split(", "))


def page(known: dict[str, str]) -> str:
    """The page, with the licences of ``known`` for packages that are not installed."""
    return (
        f"{HEAD}\n## Requirements of speechtok\n\n{direct_table(known)}\n\n"
        f"## What these require\n\n{indirect_table(known)}\n"
    )


def main() -> int:
    """Write the page."""
    known = known_licences(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    PAGE.write_text(page(known), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
