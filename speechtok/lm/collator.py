"""Training batches: examples of text and speech to ids and labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import BatchEncoding

from speechtok.errors import InputError, quoted
from speechtok.lm.conversation import is_batch
from speechtok.lm.deprecation import renamed_arguments, warn_renamed
from speechtok.lm.processor import SpeechProcessor
from speechtok.lm.utterances import as_utterances

IGNORE = -100
"""Label that the losses of PyTorch and transformers ignore."""


class SpeechCollator:
    """Collates examples into batches; labels cover the answers, not the prompts or the padding.

    An example has one of two forms:

    - ``{"prompt": …, "answer": …, "audio": […]}``: two texts with placeholders ``<|speech|>``, and the utterances of
      both in order. ``audio`` may be ``None`` or left out.
    - ``{"messages": […], "audio": […]}``: a conversation, rendered with the chat template, whose contents may be parts
      with audio. Its last message is the answer.

    Prompt and answer are tokenized separately, as at inference. An answer ends with the end token of the text
    tokenizer, if it has one.

    Args:
        processor: processor for text and speech.
        sampling_rate: sample rate of utterances that are waveforms without one, in hertz.

    With ``Trainer`` of transformers, set ``remove_unused_columns=False``.
    """

    @renamed_arguments(sample_rate="sampling_rate")
    def __init__(self, processor: SpeechProcessor, sampling_rate: int | None = None) -> None:
        self._processor = processor
        self._sampling_rate = sampling_rate

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        """Collate a batch.

        Returns:
            ``input_ids``, ``attention_mask`` and ``labels``, int64 ``(B, L)``.

        Raises:
            InputError: an example has neither prompt and answer nor messages, or its answer does not continue its
                prompt.
            VocabularyError: an example has another number of placeholders than utterances, or its ``audio`` cannot be
                used.
            AudioError, TokensError: an utterance cannot be used.
        """
        rows, prompt_lengths = [], []
        for index, example in enumerate(examples):
            try:
                texts, audio = self._tokenize(example)
                prompt, answer = self._processor.fill(texts, audio, self._sampling_rate)
            except InputError as error:
                raise type(error)(f"example {index}: {error}") from error
            rows.append(prompt + answer)
            prompt_lengths.append(len(prompt))
        batch = self._processor.pad(rows)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE)
        for label, mask, length in zip(labels, batch["attention_mask"], prompt_lengths, strict=True):
            start = int(mask.argmax()) if len(mask) else 0
            label[start : start + length] = IGNORE
        batch["labels"] = labels
        return batch

    def _tokenize(self, example: Mapping[str, Any]) -> tuple[tuple[list[int], list[int]], list[Any]]:
        """Ids of prompt and answer, with placeholders; and the utterances."""
        audio = _audio_of(example)
        if example.get("messages") is not None:
            return self._tokenize_messages(example["messages"], audio)
        if not example:
            raise InputError(
                "it has no fields; expected prompt, answer and audio, or messages and audio: Trainer removes them by "
                "default, set remove_unused_columns=False in its TrainingArguments"
            )
        for name in ("prompt", "answer"):
            if name not in example:
                raise InputError(
                    f"it has the fields {quoted(sorted(map(str, example)))}; expected prompt, answer and audio, or "
                    "messages and audio"
                )
            if not isinstance(example[name], str):
                raise InputError(f"its {name} is {quoted(example[name])}; expected a string")
        tokenizer = self._processor.tokenizer
        eos = tokenizer.eos_token_id
        prompt_ids = tokenizer(example["prompt"])["input_ids"]
        if prompt_ids and prompt_ids[-1] == eos:  # some tokenizers end each text with it, but the answer follows
            prompt_ids = prompt_ids[:-1]
        answer_ids = self._text_ids(example["answer"]) + ([] if eos is None else [eos])
        return (list(prompt_ids), answer_ids), as_utterances(audio)

    def _tokenize_messages(self, messages: Any, audio: Any) -> tuple[tuple[list[int], list[int]], list[Any]]:
        if is_batch(messages) or not messages:
            raise InputError(
                f"its messages are {quoted(messages)}; expected one conversation with at least one message"
            )
        prompt, _ = self._processor.render(messages[:-1], add_generation_prompt=True, audio=audio)
        conversation, utterances = self._processor.render(messages, audio=audio)
        if not conversation.startswith(prompt):
            raise InputError(
                f"the chat template gives {quoted(conversation)}, which does not start with the prompt "
                f"{quoted(prompt)}; expected a template that appends each message: pass prompt and answer instead"
            )
        return (self._text_ids(prompt), self._text_ids(conversation[len(prompt) :])), utterances

    def _text_ids(self, text: str) -> list[int]:
        return list(self._processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def _audio_of(example: Mapping[str, Any]) -> Any:
    """The utterances of an example, which were called ``speech`` once."""
    if "speech" in example and "audio" not in example:
        warn_renamed("the field speech of an example", "audio")
        return example["speech"]
    return example.get("audio")
