from importlib import metadata

from speechtok import load
from speechtok.version import version


def test_it_is_that_of_the_package():
    assert version() == metadata.version("speechtok")


def test_a_source_tree_that_is_not_installed_can_save(monkeypatch, tmp_path):
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert version() == "uninstalled"
    load().save(tmp_path)
    assert load(tmp_path).fingerprint == load().fingerprint
