"""Links lead somewhere, names exist, tables are complete, and the README is short."""

import configparser
import dataclasses
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import speechtok
from tests.docs.pages import DOCS, PAGES, ROOT, without_code

MAX_README_WORDS = 1000
MAX_LISTENING_BYTES = 2_000_000


def read(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def slugs(text: str) -> set[str]:
    """Anchors of the headings of a page, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def included(page: Path) -> str:
    """The text of a page, with the file that it includes."""
    text = page.read_text(encoding="utf-8")
    file = re.fullmatch(r'--8<-- "(.*)"\n', text)
    return (ROOT / file[1]).read_text(encoding="utf-8") if file else text


# --- links


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(read(page))) + re.findall(r'src="([^"]+)"', read(page))
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (PAGES[page].parent / path).resolve() if path else PAGES[page]
        assert target.is_file(), f"{page}: {link}"
        assert target.is_relative_to(ROOT), f"{page}: {link}"
        if anchor:
            assert anchor in slugs(included(target)), f"{page}: {link}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_names_of_the_api_exist(page: str):
    text = read(page)
    names = re.findall(r"\]\[((?:speechtok|training)[\w.]+)\]", text) + re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    for name in names:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str):
    pattern = r"(?<![\w/.])((?:speechtok|training|benchmarks|examples|tests|docs)/[\w./-]*\w\.(?:py|c|yaml))\b"
    for path in re.findall(pattern, read(page)):
        assert (ROOT / path).is_file() or "NAME" in path, f"{page}: {path}"


def test_names_in_the_tour_of_the_code_exist():
    sources = "".join(
        path.read_text(encoding="utf-8")
        for package in ("speechtok", "training", "tests")
        for path in (ROOT / package).rglob("*.py")
        if path.parent.name != "docs"
    )
    for name in re.findall(r"`([A-Za-z_]+(?:\.[A-Za-z_]+)*)`", read("docs/dive.md")):
        last = name.rpartition(".")[2]
        assert re.search(rf"\b{last}\b", sources) or last in ("NAME", "rms", "py"), name


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1]
    listed = {*re.findall(r"[\w/-]+\.md", navigation)}
    assert listed == {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}


def test_the_noise_on_the_page_of_formats_is_the_noise_of_decoders():
    from speechtok.nn.noise import BandNoise

    names = {"np": np}
    exec(re.search(r"^def noise\(.*?(?=^```)", read("docs/formats.md"), re.DOTALL | re.MULTILINE)[0], names)  # noqa: S102
    bands = BandNoise(3, 20, 16_000)
    assert np.array_equal(names["noise"](bands.filters.numpy(), 20), bands.table().flatten(1).numpy())


# --- completeness


def test_the_public_names_are_in_the_api_reference():
    shown = "".join(read(page) for page in PAGES if page.startswith("docs/api/"))
    for package in ("speechtok", "speechtok.lm"):
        for name in set(importlib.import_module(package).__all__) - {"__version__"}:
            assert re.search(rf"^::: {package}\.{name}$|^::: speechtok\.{name}$", shown, re.MULTILINE), name


def test_every_option_is_on_the_page_of_the_command_line():
    from tests.docs.test_snippets import help_of

    page = read("docs/cli.md")
    for command in (
        "encode",
        "decode",
        "roundtrip",
        "convert",
        "convert-voice",
        "info",
        "export",
        "serve",
        "completion",
    ):
        for option in set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", help_of("speechtok", command))) - {"-h", "--help"}:
            assert f"`{option}" in page, f"{command} {option}"


def test_every_extra_is_on_the_page_of_the_installation():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for extra in config["options.extras_require"]:
        assert f"| `{extra}` |" in read("docs/install.md"), extra


def test_every_config_is_on_the_page_of_its_fields():
    from training.command import field_docs

    page = read("docs/training-fields.md")
    for name in (
        "training.config",
        "training.teachers.pretrain.config",
        "training.teachers.hubert",
        "speechtok.config",
    ):
        module = importlib.import_module(name)
        for config in vars(module).values():
            if isinstance(config, type) and dataclasses.is_dataclass(config) and config.__module__ == name:
                assert f"<!-- fields: {name}.{config.__name__} -->" in page
                described = field_docs(config)
                for field in dataclasses.fields(config):
                    assert described.get(field.name), f"{config.__name__}.{field.name}"


def test_every_config_file_is_on_the_page_of_the_training():
    for path in (ROOT / "training" / "configs").glob("*.yaml"):
        assert f"`{path.name}`" in read("docs/training.md"), path.name


# --- the default tokenizer


def test_pages_describe_the_default_tokenizer():
    tok = speechtok.load()
    fingerprint = tok.fingerprint
    for page in (
        "docs/benchmarks/index.md",
        "docs/formats.md",
        "docs/listen/index.md",  # python -m docs.listening --data DIR
        "speechtok/assets/speechtok-v2/MODEL_CARD.md",
    ):
        assert fingerprint in read(page), page
    assert tok.decoder_fingerprint in read("docs/listen/index.md")


def test_the_architecture_has_the_parameters_of_the_default():
    tok = speechtok.load()
    parts = tok.encoder, tok.quantizer, tok.decoder, tok
    for part in parts:
        count = sum(tensor.numel() for tensor in part.state_dict().values())
        assert f"| {count:,} |".replace(",", " ") in read("docs/architecture.md")


# --- sizes


def test_the_readme_is_short():
    assert len(read("README.md").split()) <= MAX_README_WORDS


def test_the_listening_page_is_small_and_complete():
    files = [path for path in (DOCS / "listen").iterdir() if path.suffix != ".md"]
    assert sum(path.stat().st_size for path in (DOCS / "listen").iterdir()) <= MAX_LISTENING_BYTES
    used = read("docs/listen/index.md") + read("README.md")
    for path in files:
        assert path.name in used, path.name
