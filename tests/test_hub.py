from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors as hub_errors

from speechtok import SpeechTokens, load, read_audio, write_audio
from speechtok.cli import main
from speechtok.errors import InputError, MissingFileError, OutputError


@pytest.fixture
def hub(monkeypatch, tmp_path, tiny):
    """A hub of one repository; remembers what it was asked for."""
    tiny.save(tmp_path / "repository")
    tiny.save(tmp_path / "repository" / "inner")
    asked = []

    def snapshot_download(repo_id, revision=None, allow_patterns=None):
        asked.append((repo_id, revision, list(allow_patterns)))
        return str(tmp_path / "repository")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    return asked


def test_a_name_on_the_hub_is_loaded(hub, tiny):
    assert load("org/name").fingerprint == tiny.fingerprint
    repo, revision, files = hub[0]
    assert (repo, revision) == ("org/name", None)
    assert {"config.json", "model.safetensors", "SpeechTokenizer.pt"} <= set(files)


def test_the_command_line_encodes_with_a_name_on_the_hub_and_describes_it(hub, tiny, speech, tmp_path, capsys):
    write_audio(tmp_path / "a.wav", torch.from_numpy(speech(0.3)), 16_000)
    assert main(["encode", str(tmp_path / "a.wav"), "--model", "org/name"]) == 0
    tokens = SpeechTokens.load(tmp_path / "a.tokens")
    assert torch.equal(tokens.codes, tiny.encode(*read_audio(tmp_path / "a.wav")).codes)
    capsys.readouterr()
    for name in ("org/name", "org/name/inner"):
        assert main(["info", name]) == 0
        assert capsys.readouterr().out.splitlines()[0].split() == ["fingerprint", tiny.fingerprint]
    assert [repo for repo, _, _ in hub] == ["org/name"] * 3


def test_the_command_line_says_what_to_do_about_a_name_that_the_hub_does_not_have(hub, monkeypatch, tmp_path, capsys):
    def fail(*_, **__):
        raise hub_errors.RepositoryNotFoundError("404", RESPONSE)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    write_audio(tmp_path / "a.wav", torch.zeros(1600), 16_000)
    for command in (["info", "org/nothing"], ["encode", str(tmp_path / "a.wav"), "--model", "org/nothing"]):
        assert main(command) == 1
        assert "error: org/nothing is neither a local directory nor a repository" in capsys.readouterr().err


def test_tokens_that_are_not_there_are_not_sought_on_the_hub(hub, capsys):
    assert main(["info", "tokens/a.tokens"]) == 1
    assert "tokens/a.tokens" in capsys.readouterr().err
    assert hub == []


def test_a_revision_is_pinned(hub):
    load("org/name", revision="0123abc")
    assert hub[0][1] == "0123abc"


def test_a_folder_of_a_repository_is_loaded(hub, tiny):
    assert load("org/name/inner").fingerprint == tiny.fingerprint
    assert hub[0][0] == "org/name"
    assert "inner/config.json" in hub[0][2]


def test_a_directory_here_goes_before_the_hub(hub, tmp_path, tiny):
    tiny.save(tmp_path / "org" / "name")
    load("org/name")
    assert hub == []


@pytest.mark.parametrize("name", [None, "org/name"])
def test_a_revision_of_what_is_not_on_the_hub_is_refused(hub, tmp_path, tiny, name):
    tiny.save(tmp_path / "org" / "name")
    with pytest.raises(InputError, match="revision is 'main'"):
        load(name, revision="main")


def test_a_repository_without_a_tokenizer_is_refused(hub):
    with pytest.raises(MissingFileError, match=r"org/name/nothing has no file config\.json"):
        load("org/name/nothing")


@pytest.mark.parametrize("name", ["name", "org/na me", "org//name", "../name/x", "/no/where", "https://a/b"])
def test_what_is_no_name_on_the_hub_never_reaches_it(hub, name):
    with pytest.raises(InputError, match=r"does not exist; expected a directory|codec is "):
        load(name)
    assert hub == []


@pytest.mark.parametrize("name", ["runs/tokeniser", "runs/a/tokenizer", "runs/a/b/c"])
def test_a_mistyped_path_never_reaches_the_hub(hub, tmp_path, name):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    message = rf"^{name} does not exist, but its folder runs does; check the path, or pass hf://{name}"
    with pytest.raises(MissingFileError, match=message):
        load(name)
    assert hub == []


@pytest.mark.parametrize("name", ["a/checkpoint.pt", "a/b/model.safetensors", "org/config.JSON"])
def test_the_name_of_a_file_never_reaches_the_hub(hub, name):
    with pytest.raises(MissingFileError, match=f"there is no file {name}; check the path"):
        load(name)
    assert hub == []


@pytest.mark.parametrize("name", [Path("org/name"), "./name", ".hidden/name", "-x/name", "~/name", "org/name/"])
def test_what_looks_like_a_path_never_reaches_the_hub(hub, name):
    with pytest.raises(MissingFileError, match="does not exist; expected a directory"):
        load(name)
    assert hub == []


def test_a_name_that_is_said_to_be_on_the_hub_is_sought_there(hub, tmp_path, tiny):
    (tmp_path / "org").mkdir()
    assert load("hf://org/name", revision="v1").fingerprint == tiny.fingerprint
    assert load("hf://org/name.pt/inner").fingerprint == tiny.fingerprint
    assert [(repo, revision) for repo, revision, _ in hub] == [("org/name", "v1"), ("org/name.pt", None)]
    with pytest.raises(MissingFileError, match="hf://name does not exist; expected a directory, or org/name"):
        load("hf://name")


def test_control_characters_of_a_name_do_not_reach_the_terminal(hub):
    with pytest.raises(MissingFileError, match=r"^org/\\x1b\[2Jname does not exist"):
        load("org/\x1b[2Jname")
    assert hub == []


RESPONSE = SimpleNamespace(headers={}, request=None, status_code=404)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub_errors.GatedRepoError("gated", RESPONSE), "asks for consent: accept its terms"),
        (hub_errors.RepositoryNotFoundError("404", RESPONSE), "is neither a local directory nor a repository"),
        (hub_errors.RevisionNotFoundError("404", RESPONSE), "has no revision 'v9'"),
        (hub_errors.LocalEntryNotFoundError("offline"), "is not in the cache, and the hub cannot be reached: connect"),
        (hub_errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
        (hub_errors.HfHubHTTPError("500", RESPONSE), "cannot be fetched: try again later"),
        (hub_errors.HFValidationError("bad"), "is not a name on the hub: expected org/name"),
        (ConnectionError("reset"), "check the connection and the disk"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_the_hub_say_what_to_do(hub, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(MissingFileError, match=message) as caught:
        load("org/name", revision="v9")
    assert "org/name" in str(caught.value)


def test_without_huggingface_hub_the_error_says_what_to_install(hub, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingFileError, match=r"run pip install -e \"\.\[lm\]\""):
        load("org/name")


class Api:
    """Takes what is pushed."""

    calls: list = []  # noqa: RUF012

    def create_repo(self, name, private, exist_ok):
        self.calls.append(("repo", name, private, exist_ok))

    def create_branch(self, name, branch, exist_ok):
        self.calls.append(("branch", name, branch))

    def upload_folder(self, repo_id, folder_path, revision, commit_message):
        files = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        self.calls.append(("upload", repo_id, revision, files))
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_what_is_pushed_can_be_loaded_and_has_a_card(monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(Api, "calls", [])
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert tiny.push_to_hub("org/name", revision="v1", private=True) == "https://hub/org/name/commit/1"
    assert [call[:3] for call in Api.calls] == [
        ("repo", "org/name", True),
        ("branch", "org/name", "v1"),
        ("upload", "org/name", "v1"),
    ]
    files = Api.calls[-1][3]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    assert load(tmp_path).fingerprint == tiny.fingerprint
    card = files["README.md"].decode()
    assert 'speechtok.load("org/name")' in card
    assert tiny.fingerprint in card
    assert "{" not in card


def test_a_push_that_fails_says_what_to_do(monkeypatch, tiny):
    def fail(*_, **__):
        raise hub_errors.HfHubHTTPError("401 Unauthorized", RESPONSE)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(Api, "create_repo", fail)
    with pytest.raises(OutputError, match=r"org/name cannot be written on the hub \(401.*log in"):
        tiny.push_to_hub("org/name")


@pytest.mark.parametrize("name", ["name", "a/b/c", "", "org/na me"])
def test_a_push_to_no_name_is_refused(tiny, name):
    with pytest.raises(InputError, match="expected org/name"):
        tiny.push_to_hub(name)
