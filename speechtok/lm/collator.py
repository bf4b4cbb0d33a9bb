"""Training: examples of text and speech to batches in which only what is to be learned counts."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import BatchEncoding

from speechtok.errors import InputError
from speechtok.lm.processor import SpeechProcessor

IGNORE = -100
"""The label of what is not to be learned, as PyTorch's and transformers' losses know it."""


class SpeechCollator:
    """Examples to batches: the answer is to be learned; the prompt and what fills up are masked.

    An example is ``{"prompt": …, "answer": …, "speech": […]}``: texts with slots ``<|speech|>``, and the utterances
    of all of them in order. Or ``{"messages": […], "speech": […]}``: a conversation by the chat template, of which the
    last message is to be learned.

    Prompt and answer are tokenised each alone, as they are when the model answers; an answer ends with the text's end
    token, if it has one.

    Args:
        processor: of text and speech.
        sample_rate: of the waveforms, in hertz, if the utterances are no SpeechTokens.
    """

    def __init__(self, processor: SpeechProcessor, sample_rate: int | None = None) -> None:
        self._processor = processor
        self._sample_rate = sample_rate

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> BatchEncoding:
        """``input_ids``, ``attention_mask`` and ``labels``, int64 ``(B, L)``.

        Raises:
            InputError: an example has neither prompt and answer nor messages, or its answer does not follow its prompt.
            VocabularyError: slots and utterances are not as many.
        """
        rows, prompts = [], []
        for index, example in enumerate(examples):
            prompt, answer = self._tokenised(example, index)
            parts = self._processor.fill([prompt, answer], example.get("speech", ()), self._sample_rate)
            rows.append(parts[0] + parts[1])
            prompts.append(len(parts[0]))
        batch = self._processor.pad(rows)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORE)
        for label, real, length in zip(labels, batch["attention_mask"], prompts, strict=True):
            start = int(real.argmax()) if len(real) else 0
            label[start : start + length] = IGNORE
        batch["labels"] = labels
        return batch

    def _tokenised(self, example: Mapping[str, Any], index: int) -> tuple[list[int], list[int]]:
        """Prompt and answer, their slots still in them."""
        text_tokenizer = self._processor.text_tokenizer
        if "messages" in example:
            messages = example["messages"]
            prompt = self._processor.render(messages[:-1], add_generation_prompt=True)
            whole = self._processor.render(messages, add_generation_prompt=False)
            if not whole.startswith(prompt):
                raise InputError(
                    f"example {index}: the chat template gives {whole!r}, which does not begin with the prompt "
                    f"{prompt!r}; "
                    "expected a template whose conversations grow at their end: pass prompt and answer instead"
                )
            return self._ids(prompt), self._ids(whole[len(prompt) :])
        if "prompt" not in example or "answer" not in example:
            raise InputError(
                f"example {index} has the fields {sorted(example)}; expected prompt and answer, or messages, and speech"
            )
        end = text_tokenizer.eos_token_id
        prompt_ids = text_tokenizer(example["prompt"])["input_ids"]
        if prompt_ids and prompt_ids[-1] == end:  # some add it to every text, and here the answer follows
            prompt_ids = prompt_ids[:-1]
        return list(prompt_ids), self._ids(example["answer"]) + ([] if end is None else [end])

    def _ids(self, text: str) -> list[int]:
        return list(self._processor.text_tokenizer(text, add_special_tokens=False)["input_ids"])
