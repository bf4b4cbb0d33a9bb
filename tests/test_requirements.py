"""The locks agree with each other and with ``setup.cfg``. ``make constraints`` writes them."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def requirements() -> dict[str, list[Requirement]]:
    """Requirements that ``setup.cfg`` states, by extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    groups = {"core": config["options"]["install_requires"], **config["options.extras_require"]}
    return {
        name: [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]
        for name, text in groups.items()
    }


def pins(path: Path) -> dict[str, set[str]]:
    """Versions of each package in a file of pins."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


CONSTRAINTS = pins(ROOT / "constraints.txt")


def test_each_extra_has_a_lock():
    names = [path.stem for path in (ROOT / "requirements").iterdir()]
    assert sorted(names) == sorted(requirements())
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert sorted(re.search(r"^EXTRAS = (.*)$", makefile, re.MULTILINE)[1].split()) == sorted(names)


@pytest.mark.parametrize("extra", requirements())
def test_a_lock_has_the_requirements_of_its_extra_in_the_versions_of_the_constraints_with_hashes(extra):
    path = ROOT / "requirements" / f"{extra}.txt"
    locked = pins(path)
    for requirement in requirements()["core"] + requirements()[extra]:
        versions = locked[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement
    for name, versions in locked.items():
        assert versions <= CONSTRAINTS[name], f"{name}: run make constraints"
    for entry in re.split(r"^(?=\w)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        assert re.search(r"\\\n    --hash=sha256:[0-9a-f]{64}", entry), entry.partition("\n")[0]


def test_constraints_have_every_requirement_in_a_version_that_fits():
    for extra, group in requirements().items():
        for requirement in group:
            versions = CONSTRAINTS[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions), (extra, requirement)
