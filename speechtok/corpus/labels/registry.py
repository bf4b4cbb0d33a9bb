"""Labels by name."""

import importlib

from speechtok.corpus.labels.label import CorpusLabel, Label
from speechtok.errors import InputError, quoted

LABELS: dict[str, str] = {
    "level": "speechtok.corpus.labels.level:Level",
    "speech": "speechtok.corpus.labels.speech:Speech",
    "silero": "speechtok.corpus.labels.speech:Silero",
    "turns": "speechtok.corpus.labels.speech:Turns",
    "prosody": "speechtok.corpus.labels.prosody:Prosody",
    "caption": "speechtok.corpus.labels.caption:Caption",
    "dnsmos": "speechtok.corpus.labels.dnsmos:Dnsmos",
    "voice": "speechtok.corpus.labels.voice:Voice",
    "speakers": "speechtok.corpus.labels.voice:Speakers",
    "minhash": "speechtok.corpus.labels.duplicates:MinHash",
    "duplicates": "speechtok.corpus.labels.duplicates:Duplicates",
}
"""Module and class of each label."""


def load_label(name: str) -> Label | CorpusLabel:
    """Make a label from its name, or from ``module:Class``.

    Raises:
        InputError: the name is unknown, or its class cannot be imported or made.
    """
    module, separator, attribute = LABELS.get(name, name).partition(":")
    if not separator:
        raise InputError(f"label is {quoted(name)}; expected one of {', '.join(LABELS)}, or module:Class of your own")
    try:
        label = getattr(importlib.import_module(module), attribute)()
    except InputError:
        raise
    except Exception as error:  # whatever a class of the user raises
        raise InputError(f"label {quoted(name)} cannot be made ({type(error).__name__}: {error!s:.200})") from error
    if not isinstance(label, (Label, CorpusLabel)):
        raise InputError(f"label {quoted(name)} is a {type(label).__name__}; expected a Label")
    return label


def split_labels(names: tuple[str, ...]) -> tuple[dict[str, Label], dict[str, CorpusLabel]]:
    """Labels of each utterance and labels of the whole corpus, with those that they need before them.

    Raises:
        InputError: a label cannot be made, or two have a column of one name.
    """
    labels: dict[str, Label | CorpusLabel] = {}

    def add(name: str) -> None:
        if name in labels:
            return
        label = load_label(name)
        for needed in label.needs:
            add(needed)
        labels[name] = label

    for name in names:
        add(name)
    owners: dict[str, str] = {}
    for name, label in labels.items():
        for column in label.columns:
            if owners.setdefault(column, name) != name:
                raise InputError(
                    f"labels {owners[column]!r} and {name!r} have the column {column!r}; choose one of them"
                )
    return (
        {name: label for name, label in labels.items() if isinstance(label, Label)},
        {name: label for name, label in labels.items() if isinstance(label, CorpusLabel)},
    )
