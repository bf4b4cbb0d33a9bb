"""Conversations in the format of transformers: contents of parts to text with placeholders, and their audio."""

from collections.abc import Mapping, Sequence
from typing import Any

from speechtok.errors import VocabularyError, quoted
from speechtok.lm.layout import PLACEHOLDER_TOKEN

_AUDIO_FIELDS = "audio", "path"
"""Fields of an audio part that may hold the audio."""


def is_batch(conversation: Any) -> bool:
    """Whether ``conversation`` is a list of conversations instead of a list of messages.

    Raises:
        VocabularyError: it is neither.
    """
    if isinstance(conversation, Sequence) and not isinstance(conversation, str):
        if all(isinstance(message, Mapping) for message in conversation):
            return False
        if all(isinstance(one, Sequence) and not isinstance(one, str) for one in conversation):
            return True
    raise VocabularyError(
        f"conversation is {quoted(conversation)}; expected a list of messages with role and content, or a list of such "
        "lists"
    )


def flatten_contents(
    messages: Sequence[Mapping[str, Any]], audio: Sequence[Any], require: bool = True
) -> tuple[list[dict[str, Any]], list[Any], list[Any]]:
    """Replace contents of parts by strings with placeholders, and collect the audio in order.

    Args:
        messages: a conversation. A content is a string, ``None``, or a list of parts ``{"type": "text", "text": …}``
            and ``{"type": "audio", "audio": …}``; an audio part may hold ``path`` instead, or nothing.
        audio: utterances for the placeholders in strings and for audio parts that hold nothing, in order.
        require: whether each placeholder must have an utterance.

    Returns:
        The messages with strings as contents; the utterance of each placeholder; the utterances of ``audio`` that are
        left.

    Raises:
        VocabularyError: a message or a part cannot be used, or a placeholder has no utterance.
    """
    flat, utterances, remaining = [], [], list(audio)
    for message in messages:
        if not isinstance(message, Mapping):
            raise VocabularyError(f"a message is {quoted(message)}; expected a mapping with role and content")
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if parts is None:  # a call of a tool has no content
            flat.append(dict(message))
            continue
        if not isinstance(parts, Sequence):
            raise VocabularyError(
                f"the content of a message is {quoted(content)}; expected a string or a list of parts"
            )
        texts = []
        for part in parts:
            text, own = _read_part(part)
            texts.append(text)
            for _ in range(text.count(PLACEHOLDER_TOKEN)):
                if own is None and not remaining:
                    if not require:
                        continue
                    raise VocabularyError(
                        f"a message has more placeholders {PLACEHOLDER_TOKEN} or audio parts than there are "
                        f"utterances ({len(audio)} in audio): pass one for each, or put it into its part; a trainer "
                        "that renders the data itself, such as SFTTrainer of TRL, needs skip_prepare_dataset=True"
                    )
                utterances.append(remaining.pop(0) if own is None else own)
        flat.append({**message, "content": "".join(texts)})
    return flat, utterances, remaining


def _read_part(part: Any) -> tuple[str, Any]:
    """Text of a part with its placeholders, and the audio that the part itself holds."""
    if isinstance(part, str):
        return part, None
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return part["text"], None
    if kind == "audio" and part.get("url") is not None:
        raise VocabularyError(
            f"an audio part has the url {quoted(part['url'])}; expected audio or path: download it first"
        )
    if kind == "audio":
        return PLACEHOLDER_TOKEN, next((part[name] for name in _AUDIO_FIELDS if part.get(name) is not None), None)
    raise VocabularyError(
        f"a content has the part {quoted(part)}; expected {{'type': 'text', 'text': …}} or {{'type': 'audio', "
        "'audio': …}"
    )
