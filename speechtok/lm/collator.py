"""Training batches: examples of text and speech to ids and labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import BatchEncoding

from speechtok.errors import InputError, quoted
from speechtok.lm.processor import SpeechProcessor

IGNORE = -100
"""Label that the losses of PyTorch and transformers ignore."""


class SpeechCollator:
    """Collates examples into batches; labels cover the answers, not the prompts or the padding.

    An example has one of two forms:

    - ``{"prompt": …, "answer": …, "speech": […]}``: two texts with placeholders ``<|speech|>``, and the utterances of
      both in order. ``speech`` may be left out.
    - ``{"messages": […], "speech": […]}``: a conversation, rendered with the chat template. Its last message is the
      answer.

    Prompt and answer are tokenized separately, as at inference. An answer ends with the end token of the text
    tokenizer, if it has one.

    Args:
        processor: processor for text and speech.
        sample_rate: sample rate of the utterances in hertz, if they are waveforms instead of SpeechTokens.
    """

    def __init__(self, processor: SpeechProcessor, sample_rate: int | None = None) -> None:
        self._processor = processor
        self._sample_rate = sample_rate

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        """Collate a batch.

        Returns:
            ``input_ids``, ``attention_mask`` and ``labels``, int64 ``(B, L)``.

        Raises:
            InputError: an example has neither prompt and answer nor messages, or its answer does not continue its
                prompt.
            VocabularyError: an example has another number of placeholders than utterances, or its ``speech`` is not a
                list.
            AudioError, TokensError: an utterance cannot be used.
        """
        rows, prompt_lengths = [], []
        for index, example in enumerate(examples):
            texts = self._tokenize(example, index)
            try:
                prompt, answer = self._processor.fill(texts, example.get("speech", ()), self._sample_rate)
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

    def _tokenize(self, example: Mapping[str, Any], index: int) -> tuple[list[int], list[int]]:
        """Ids of prompt and answer, with placeholders."""
        if "messages" in example:
            messages = example["messages"]
            prompt = self._processor.render(messages[:-1], add_generation_prompt=True)
            conversation = self._processor.render(messages, add_generation_prompt=False)
            if not conversation.startswith(prompt):
                raise InputError(
                    f"example {index}: the chat template gives {quoted(conversation)}, which does not start with the "
                    f"prompt {quoted(prompt)}; expected a template that appends each message: pass prompt and answer "
                    "instead"
                )
            return self._text_ids(prompt), self._text_ids(conversation[len(prompt) :])
        for name in ("prompt", "answer"):
            if name not in example:
                raise InputError(
                    f"example {index} has the fields {quoted(sorted(map(str, example)))}; expected prompt, answer and "
                    "speech, or messages and speech"
                )
            if not isinstance(example[name], str):
                raise InputError(f"example {index} has the {name} {quoted(example[name])}; expected a string")
        text_tokenizer = self._processor.text_tokenizer
        eos = text_tokenizer.eos_token_id
        prompt_ids = text_tokenizer(example["prompt"])["input_ids"]
        if prompt_ids and prompt_ids[-1] == eos:  # some tokenizers end each text with it, but the answer follows
            prompt_ids = prompt_ids[:-1]
        return list(prompt_ids), self._text_ids(example["answer"]) + ([] if eos is None else [eos])

    def _text_ids(self, text: str) -> list[int]:
        return list(self._processor.text_tokenizer(text, add_special_tokens=False)["input_ids"])
