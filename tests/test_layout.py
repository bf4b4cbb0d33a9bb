"""Imports between files go one way: no circles, no imports from a higher layer, types and late imports included."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["speechtok", "training", "benchmarks", "examples", "bindings"]

Graph = dict[str, set[str]]
"""For each module, the modules that it imports."""
Layers = list[list[str]]
"""From the lowest to the highest; a package stands for its modules. Entries of one layer do not import each other."""

LAYERS: Layers = [
    ["speechtok.errors", "speechtok.version", "speechtok.extras", "speechtok.shadowing", "speechtok.limits"],
    ["speechtok.parsing"],
    ["speechtok.hashing", "speechtok.fingerprints", "speechtok.card"],
    ["speechtok.files", "speechtok.mapping", "speechtok.device", "speechtok.hub", "speechtok.workers"],
    ["speechtok.manifest", "speechtok.where"],
    ["speechtok.tensor_file", "speechtok.torch_file"],
    ["speechtok.auto_classes"],
    ["speechtok.media", "speechtok.polyphase", "speechtok.entropy"],
    ["speechtok.parquet"],
    ["speechtok.audio", "speechtok.config", "speechtok.tokens", "speechtok.checkpoint"],
    ["speechtok.resampling"],
    ["speechtok.nn", "speechtok.metrics", "speechtok.dnsmos", "speechtok.plot", "speechtok.pitch"],
    ["speechtok.companions", "speechtok.rows", "speechtok.speech_frames"],
    ["speechtok.turn_detector"],
    ["speechtok.turn_rows"],
    ["speechtok.streaming"],
    ["speechtok.tokenizer"],
    ["speechtok.convnext", "speechtok.seanet", "speechtok.codecs"],
    ["speechtok.interop", "speechtok.export"],
    ["speechtok.loaders"],
    ["speechtok.voice"],
    ["speechtok.lm"],
    ["speechtok.transformers", "speechtok.corpus"],
    ["speechtok.live"],
    ["speechtok.__init__"],
    ["speechtok.cli"],
    ["speechtok.__main__"],
    ["bindings"],
    ["training"],
    ["benchmarks"],
    ["examples"],
]


def read_imports(root: Path, packages: list[str]) -> Graph:
    """Imports between the modules of ``packages``, which are folders of ``root``.

    An import inside a function or under ``TYPE_CHECKING`` counts like any other. A package is the module
    ``package.__init__``; importing one of its modules does not count as an import of the package itself.
    """
    files = {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for package in packages
        for path in sorted((root / package).rglob("*.py"))
    }

    def modules(name: str) -> set[str]:
        return {module for module in (name, f"{name}.__init__") if module in files}

    graph: Graph = {}
    for importer, path in files.items():
        graph[importer] = set()
        for name, attribute in _imported_names(ast.parse(path.read_text(encoding="utf-8")), importer):
            graph[importer] |= modules(f"{name}.{attribute}") or modules(name)
    return graph


def _imported_names(tree: ast.Module, importer: str) -> Iterator[tuple[str, str]]:
    """Each imported module, and the attribute of it that is imported, which may be a module too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = importer.split(".")[: -node.level] if node.level else []
            name = ".".join([*package, *filter(None, [node.module])])
            yield from ((name, alias.name) for alias in node.names)


def find_circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others of the group."""
    reachable: Graph = {module: set() for module in graph}
    for module, found in reachable.items():
        waiting = list(graph[module])
        while waiting:
            imported = waiting.pop()
            if imported not in found:
                found.add(imported)
                waiting += graph[imported]
    groups = {
        tuple(sorted(other for other in found if module in reachable[other]))
        for module, found in reachable.items()
        if module in found
    }
    return [list(group) for group in sorted(groups)]


def find_upward_imports(graph: Graph, layers: Layers) -> list[str]:
    """Imports from a higher layer, or from another entry of the same one; and modules that no layer names."""
    entries = {name: (level, name) for level, names in enumerate(layers) for name in names}

    def entry(module: str) -> tuple[int, str] | None:
        parts = module.split(".")
        return next(filter(None, (entries.get(".".join(parts[:n])) for n in range(len(parts), 0, -1))), None)

    faults = [f"{module} is in no layer" for module in graph if entry(module) is None]
    for module, imported_modules in graph.items():
        for imported in sorted(imported_modules):
            above, below = entry(module), entry(imported)
            if above and below and above != below and above[0] <= below[0]:
                faults.append(f"{module} imports {imported}")
    return faults


@pytest.fixture(scope="module")
def graph() -> Graph:
    return read_imports(ROOT, PACKAGES)


def test_no_files_import_each_other_in_a_circle(graph):
    assert_none([" -> ".join(circle) for circle in find_circles(graph)])


def test_no_file_imports_from_a_higher_layer(graph):
    assert_none(find_upward_imports(graph, LAYERS))


def assert_none(faults: list[str]) -> None:
    assert not faults, "\n".join(["", *faults])


def test_the_training_program_stays_short():
    lines = (ROOT / "training" / "train.py").read_text(encoding="utf-8").count("\n")
    assert lines < 200


# The checks themselves, on small trees of files.


def write_tree(root: Path, **sources: str) -> Graph:
    for name, source in sources.items():
        path = root.joinpath("package", *name.split("__in__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return read_imports(root, ["package"])


def test_a_tree_without_circles_passes(tmp_path):
    graph = write_tree(tmp_path, a="", b="import package.a", c="from package import a, b\nimport os", __init__="")
    assert graph["package.c"] == {"package.a", "package.b"}
    assert find_circles(graph) == []
    assert find_upward_imports(graph, [["package.a", "package.__init__"], ["package.b"], ["package.c"]]) == []


@pytest.mark.parametrize(
    "source",
    [
        "import package.b",
        "from package import b",
        "from package.b import f",
        "from . import b",
        "from .b import f",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.b import T",
        "def f():\n    from package.b import g\n    return g",
    ],
)
def test_circles_are_found_however_the_import_is_written(tmp_path, source):
    graph = write_tree(tmp_path, a=source, b="from package.c import x", c="from package import a")
    assert find_circles(graph) == [["package.a", "package.b", "package.c"]]
    assert find_upward_imports(graph, [["package.a"], ["package.b"], ["package.c"]]) == [
        "package.a imports package.b",
        "package.b imports package.c",
    ]


def test_circles_through_the_init_file_of_a_package_are_found(tmp_path):
    graph = write_tree(tmp_path, __init__="from package.a import f", a="import package")
    assert find_circles(graph) == [["package.__init__", "package.a"]]


def test_relative_imports_of_subpackages_are_resolved(tmp_path):
    graph = write_tree(
        tmp_path, sub__in____init__="from .a import f", sub__in__a="from ..b import g", b="from .sub import f"
    )
    assert find_circles(graph) == [["package.b", "package.sub.__init__", "package.sub.a"]]


def test_entries_of_one_layer_do_not_import_each_other_and_modules_of_one_entry_may(tmp_path):
    graph = write_tree(tmp_path, a="", b="import package.a", sub__in__c="", sub__in__d="import package.sub.c")
    assert find_upward_imports(graph, [["package.a", "package.b", "package.sub"]]) == ["package.b imports package.a"]


def test_a_module_in_no_layer_is_a_fault(tmp_path):
    assert find_upward_imports(write_tree(tmp_path, a=""), [["package.b"]]) == ["package.a is in no layer"]
