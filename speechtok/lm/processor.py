"""Processor for text with speech: strings with placeholders to ids of a language model, and back."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import AutoProcessor, BatchEncoding, PreTrainedTokenizerBase, ProcessorMixin
from transformers.configuration_utils import PretrainedConfig

from speechtok.errors import FingerprintError, MissingFileError, OutputError, VocabularyError, quoted
from speechtok.files import replacing
from speechtok.hub import check_repository_name, locate, upload_folder
from speechtok.lm.conversation import flatten_contents, is_batch
from speechtok.lm.deprecation import Renamed, renamed_arguments
from speechtok.lm.extend import extend_tokenizer, vocabulary_of
from speechtok.lm.layout import PLACEHOLDER_TOKEN
from speechtok.lm.padding import as_inputs, pad_rows, padded_length
from speechtok.lm.patterns import Pattern
from speechtok.lm.text_and_speech import TextAndSpeech
from speechtok.lm.text_tokenizer import load_text_tokenizer
from speechtok.lm.utterances import as_utterances, encode_utterance
from speechtok.lm.vocabulary import AudioVocabulary
from speechtok.loaders import load
from speechtok.tokenizer import Tokenizer
from speechtok.tokens import SpeechTokens

_FOLDER = "speech_tokenizer"
"""Folder of the speech tokenizer in a saved processor."""

_PROCESSOR_CONFIG = {
    "processor_class": "SpeechProcessor",
    "auto_map": {"AutoProcessor": "processing_speechtok.SpeechProcessor"},
}
"""``processor_config.json`` of a saved processor, by which AutoProcessor finds the class."""

_REMOTE_CODE = '''"""Loads the processor with AutoProcessor and trust_remote_code=True; needs the package speechtok."""

from speechtok.lm import SpeechProcessor

__all__ = ["SpeechProcessor"]
'''
"""``processing_speechtok.py`` of a saved processor."""


class SpeechProcessor(ProcessorMixin):
    """Combines a text tokenizer and a speech tokenizer; ``<|speech|>`` in a text is the placeholder of an utterance.

    A processor of transformers: it is called, saved, loaded and passed to trainers as those of other models that take
    audio.

    Args:
        tokenizer: text tokenizer of transformers; extended in place with :func:`~speechtok.lm.extend_tokenizer`.
        speech_tokenizer: speech tokenizer.
        vocabulary: vocabulary of ``speech_tokenizer``, with any pattern and offset.

    Attributes:
        vocabulary: the vocabulary, with the offset that it has in ``tokenizer``.

    Raises:
        VocabularyError: the vocabulary belongs to another speech tokenizer, or ``tokenizer`` cannot be extended.
    """

    attributes = ["tokenizer"]  # noqa: RUF012  transformers copies the list
    tokenizer_class = "AutoTokenizer"  # type: ignore[assignment]

    text_tokenizer = Renamed("tokenizer")

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, speech_tokenizer: Tokenizer, vocabulary: AudioVocabulary
    ) -> None:
        # not super().__init__(), which requires every attribute to be a class of transformers
        try:
            vocabulary = vocabulary.for_tokenizer(speech_tokenizer)
        except FingerprintError as error:
            raise VocabularyError(str(error)) from error
        self.tokenizer = tokenizer
        self.speech_tokenizer = speech_tokenizer
        self.vocabulary = extend_tokenizer(tokenizer, vocabulary)

    @property
    def chat_template(self) -> Any:
        """Chat template of the text tokenizer."""
        return self.tokenizer.chat_template

    @chat_template.setter
    def chat_template(self, template: Any) -> None:
        self.tokenizer.chat_template = template

    @property
    def model_input_names(self) -> list[str]:
        """Names of the model inputs that the processor makes."""
        return ["input_ids", "attention_mask"]

    @property
    def pad_id(self) -> int:
        """Id that pads batches: that of the text tokenizer if it has one, else that of the vocabulary."""
        pad_id = self.tokenizer.pad_token_id
        return self.vocabulary.pad_id if pad_id is None else int(pad_id)

    def __repr__(self) -> str:
        kind, fingerprint = type(self.tokenizer).__name__, self.speech_tokenizer.fingerprint
        return f"SpeechProcessor({kind}, {fingerprint}, {self.vocabulary!r})"

    @renamed_arguments(speech="audio", sample_rate="sampling_rate")
    def __call__(  # type: ignore[override]
        self,
        text: str | Sequence[str] | None = None,
        audio: Any = None,
        sampling_rate: int | None = None,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        truncation: bool = False,
        return_tensors: str | None = "pt",
    ) -> BatchEncoding:
        """Texts and utterances to model inputs.

        Args:
            text: one text or several, with a placeholder ``<|speech|>`` for each utterance; by default, each utterance
                alone. A prompt that ends with ``<|speech_begin|>`` asks for speech.
            audio: utterances for all placeholders in order: SpeechTokens, whose rows are taken one after another,
                waveforms ``(S,)``, paths of audio files, or mappings with ``array`` and ``sampling_rate``.
            sampling_rate: sample rate of waveforms, in hertz.
            add_special_tokens: whether the text tokenizer adds its special tokens, such as a start token.
            padding: ``True`` or ``"longest"`` pads to the longest row, ``"max_length"`` to ``max_length``, ``False``
                not at all.
            max_length: length for ``padding="max_length"``.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            padding_side: ``"left"`` or ``"right"``; by default, that of the text tokenizer.
            truncation: must be false. Cutting a sequence would cut utterances.
            return_tensors: ``"pt"`` for tensors, ``"np"`` for arrays, ``None`` for lists.

        Returns:
            ``input_ids`` and ``attention_mask``, int64 ``(B, L)``.

        Raises:
            VocabularyError: the numbers of placeholders and utterances differ, ``sampling_rate`` is missing, or an
                argument cannot be used.
            AudioError, TokensError: an utterance cannot be used.
        """
        if truncation:
            raise VocabularyError(
                f"truncation is {quoted(truncation)}; expected False: shorten the audio with tokens.crop() or the text"
            )
        utterances = [row for one in as_utterances(audio) for row in self._rows(one, sampling_rate)]
        texts = self._texts(text, len(utterances))
        ids = [self.tokenizer(one, add_special_tokens=add_special_tokens)["input_ids"] for one in texts]
        return self.pad(
            self.fill(ids, utterances),
            padding=padding,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_tensors=return_tensors,
        )

    @renamed_arguments(speech="audio", sample_rate="sampling_rate")
    def apply_chat_template(
        self,
        conversation: Sequence[Any],
        chat_template: str | None = None,
        *,
        audio: Any = None,
        sampling_rate: int | None = None,
        add_generation_prompt: bool = False,
        tokenize: bool = True,
        return_dict: bool = True,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = "pt",
        **template: Any,
    ) -> Any:
        """One conversation, or a batch of them, to model inputs, with the chat template of the text tokenizer.

        Args:
            conversation: messages in the format of transformers, or a list of such lists. A content is a string with
                placeholders ``<|speech|>``, or a list of parts ``{"type": "text", "text": …}`` and ``{"type": "audio",
                "audio": …}``.
            chat_template: template to use instead of that of the text tokenizer.
            audio: utterances for the placeholders in strings and for audio parts that hold nothing, in order over all
                conversations; see :meth:`__call__`.
            sampling_rate: sample rate of waveforms, in hertz.
            add_generation_prompt: whether to add the prompt for an answer of the model.
            tokenize: whether to return ids instead of text with placeholders.
            return_dict: whether to return ``input_ids`` with ``attention_mask`` instead of ``input_ids`` alone.
            padding: as :meth:`__call__`.
            max_length: as :meth:`__call__`.
            pad_to_multiple_of: as :meth:`__call__`.
            padding_side: as :meth:`__call__`.
            return_tensors: as :meth:`__call__`.
            **template: ``tools``, ``documents``, ``continue_final_message`` and variables of the template.

        Returns:
            ``input_ids`` and ``attention_mask``, int64 ``(B, L)``; or ``input_ids``; or without ``tokenize`` a string
            for a conversation and a list of strings for a batch.

        Raises:
            VocabularyError, AudioError, TokensError: as :meth:`__call__`; or a part of a message cannot be used.
        """
        if template.pop("truncation", False):
            raise VocabularyError("truncation is set; expected False: shorten the conversation or its audio")
        conversations = list(conversation) if is_batch(conversation) else [conversation]
        remaining: list[Any] = self._alone(as_utterances(audio), sampling_rate) if tokenize else as_utterances(audio)
        texts, utterances = [], []
        for messages in conversations:
            flat, own, remaining = flatten_contents(messages, remaining, require=tokenize)
            texts.append(self._render(flat, chat_template, add_generation_prompt, **template))
            utterances += own
        if not tokenize:
            return texts if is_batch(conversation) else texts[0]
        batch = self(
            texts,
            [*utterances, *remaining],
            sampling_rate,
            add_special_tokens=False,  # the template adds them
            padding=padding,
            max_length=max_length,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_tensors=return_tensors,
        )
        return batch if return_dict else batch["input_ids"]

    def render(
        self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = False, audio: Any = None
    ) -> tuple[str, list[Any]]:
        """Text of a conversation by the chat template, with its placeholders, and the utterance of each placeholder.

        Args:
            messages: a conversation; see :meth:`apply_chat_template`.
            add_generation_prompt: whether to add the prompt for an answer of the model.
            audio: utterances for placeholders without one; they may be more or fewer.
        """
        flat, utterances, remaining = flatten_contents(messages, as_utterances(audio), require=False)
        return self._render(flat, None, add_generation_prompt), [*utterances, *remaining]

    @renamed_arguments(speech="audio", sample_rate="sampling_rate")
    def fill(
        self, ids: Sequence[Sequence[int]], audio: Any = None, sampling_rate: int | None = None
    ) -> list[list[int]]:
        """Replace the placeholders in tokenized texts by the ids of utterances, in order.

        Args:
            ids: rows of ids, with :attr:`AudioVocabulary.placeholder_id` for each placeholder.
            audio: utterances; see :meth:`__call__`.
            sampling_rate: sample rate of waveforms, in hertz.

        Raises:
            VocabularyError, AudioError, TokensError: as :meth:`__call__`.
        """
        placeholder = self.vocabulary.placeholder_id
        utterances = [self._ids(row) for one in as_utterances(audio) for row in self._rows(one, sampling_rate)]
        num_placeholders = sum(list(row).count(placeholder) for row in ids)
        if num_placeholders != len(utterances):
            raise VocabularyError(
                f"the text has {num_placeholders} placeholders {PLACEHOLDER_TOKEN} for {len(utterances)} utterances; "
                f"expected equal numbers: write {PLACEHOLDER_TOKEN} for each utterance"
            )
        remaining = iter(utterances)
        return [[i for id_ in row for i in (next(remaining) if id_ == placeholder else (id_,))] for row in ids]

    def pad(
        self,
        ids: Sequence[Sequence[int]],
        *,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchEncoding:
        """Rows of different lengths to ``input_ids`` and ``attention_mask``, int64 ``(B, L)``; see :meth:`__call__`."""
        rows, masks = pad_rows(
            ids,
            self.pad_id,
            side=self.tokenizer.padding_side if padding_side is None else padding_side,
            length=padded_length(ids, padding, max_length, pad_to_multiple_of),
        )
        return BatchEncoding(as_inputs(rows, masks, return_tensors))

    def decode(self, ids: Tensor | Sequence[int], skip_special_tokens: bool = True, **options: Any) -> TextAndSpeech:
        """A sequence of ids ``(L,)``, given or generated, to its text and utterances.

        Generated ids never raise an error: the valid part of each utterance is returned.

        Args:
            ids: ids ``(L,)``.
            skip_special_tokens: whether to leave special tokens of the text tokenizer out of the text.
            **options: options of the ``decode`` of the text tokenizer.

        Raises:
            VocabularyError: ``ids`` has a wrong shape or dtype.
        """
        text, speech, done = [], [], 0
        spans = self.vocabulary.spans(ids)
        row = [int(i) for i in ids]
        for span in spans:
            text.append(self._decode_text(row[done : span.start], skip_special_tokens, options))
            speech.append(self.vocabulary.to_codes(row[span], strict=False))
            done = span.stop
        text.append(self._decode_text(row[done:], skip_special_tokens, options))
        return TextAndSpeech(PLACEHOLDER_TOKEN.join(text), speech)

    def batch_decode(
        self, ids: Tensor | Sequence[Sequence[int]], skip_special_tokens: bool = True, **options: Any
    ) -> list[TextAndSpeech]:
        """:meth:`decode` for each row of ``ids``, ``(B, L)``."""
        return [self.decode(row, skip_special_tokens, **options) for row in ids]

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **options: Any
    ) -> None:
        """Write the text tokenizer with its vocabulary, and the speech tokenizer in a folder of its own.

        Args:
            save_directory: folder to write to.
            push_to_hub: whether to upload as well, to the repository ``repo_id`` in ``options``.
            **options: ``repo_id``, ``revision`` and ``private`` for the upload; others go to the text tokenizer.

        Raises:
            OutputError: they cannot be written.
        """
        directory = Path(save_directory)
        upload = {name: options.pop(name) for name in ("repo_id", "revision", "private") if name in options}
        self.speech_tokenizer.save(directory / _FOLDER)
        try:
            self.tokenizer.save_pretrained(directory, **options)
        except OSError as error:
            raise OutputError(f"cannot write to {directory}: {error}; choose a writable place with room") from error
        for name, text in (
            ("processor_config.json", json.dumps(_PROCESSOR_CONFIG, indent=2) + "\n"),
            ("processing_speechtok.py", _REMOTE_CODE),
        ):
            with replacing(directory / name) as file:
                file.write(text.encode())
        if push_to_hub:
            self.push_to_hub(**{"repo_id": directory.name, **upload})

    def push_to_hub(  # type: ignore[override]
        self, repo_id: str, revision: str | None = None, private: bool = False
    ) -> str:
        """Upload to the Hugging Face hub, for ``SpeechProcessor.from_pretrained(repo_id)``.

        Args:
            repo_id: repository, ``org/name``; it is created if it does not exist.
            revision: branch to write to, created if it does not exist; the main branch by default.
            private: whether a new repository is private.

        Returns:
            The address of the commit.

        Raises:
            InputError: the name is not one of a repository.
            OutputError: not logged in, not allowed, or the hub cannot be reached.
        """
        check_repository_name(repo_id)
        with tempfile.TemporaryDirectory() as directory:
            self.save_pretrained(directory)
            return upload_folder(
                directory, repo_id, f"speechtok processor {self.vocabulary.fingerprint}", revision, private
            )

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        pattern: Pattern | None = None,
        revision: str | None = None,
        **options: Any,
    ) -> "SpeechProcessor":
        """Load a processor that :meth:`save_pretrained` wrote. Code in its folder is never run.

        Args:
            pretrained_model_name_or_path: folder of the processor, or ``org/name`` on the Hugging Face hub.
            pattern: the pattern, if :data:`~speechtok.lm.PATTERNS` does not have it.
            revision: branch, tag or commit on the hub.
            **options: options of ``AutoTokenizer.from_pretrained`` for the text tokenizer, such as ``padding_side``.

        Raises:
            MissingFileError: the folder does not exist.
            VocabularyError: the text tokenizer has no vocabulary, or one of another speech tokenizer.
            CheckpointError: one of the tokenizers is damaged.
        """
        name = pretrained_model_name_or_path
        for passed_by_auto_classes in ("trust_remote_code", "_from_auto", "local_files_only"):
            options.pop(passed_by_auto_classes, None)
        try:
            directory = locate(name, revision, ("*",))
        except MissingFileError as error:
            raise MissingFileError(f"{error}; a folder of a processor is written by save_pretrained") from error
        speech_tokenizer = load(directory / _FOLDER)
        tokenizer = load_text_tokenizer(directory, options)
        saved = vocabulary_of(tokenizer)
        if saved is None:
            raise VocabularyError(
                f"{directory} has a text tokenizer without a vocabulary; expected a folder that save_pretrained wrote"
            )
        return cls(tokenizer, speech_tokenizer, AudioVocabulary.from_dict(saved, pattern))

    def _texts(self, text: Any, utterances: int) -> list[str]:
        if text is None:
            return [PLACEHOLDER_TOKEN] * utterances
        texts = [text] if isinstance(text, str) else list(text) if isinstance(text, Sequence) else None
        if texts is None or not all(isinstance(one, str) for one in texts):
            raise VocabularyError(f"text is {quoted(text)}; expected a string or a list of strings")
        return texts

    def _render(
        self, messages: list[dict[str, Any]], chat_template: str | None, add_generation_prompt: bool, **template: Any
    ) -> str:
        if chat_template is not None:
            template["chat_template"] = chat_template
        return str(
            self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, **template
            )
        )

    def _alone(self, utterances: list[Any], sampling_rate: int | None) -> list[SpeechTokens]:
        """Utterances as batches of one."""
        return [row for one in utterances for row in self._rows(one, sampling_rate)]

    def _rows(self, utterance: Any, sampling_rate: int | None) -> Iterator[SpeechTokens]:
        tokens = encode_utterance(self.speech_tokenizer, utterance, sampling_rate)
        return (tokens[row] for row in range(len(tokens)))

    def _ids(self, tokens: SpeechTokens) -> list[int]:
        """Ids of an utterance, with start and end tokens."""
        ids: list[int] = self.vocabulary.to_ids(tokens)[0].tolist()
        return ids

    def _decode_text(self, ids: list[int], skip_special_tokens: bool, options: dict[str, Any]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, **options)) if ids else ""


class _SpeechProcessorConfig(PretrainedConfig):
    """Key for the registration: AutoProcessor finds classes by the config of a model."""

    model_type = "speechtok_processor"


AutoProcessor.register(_SpeechProcessorConfig, SpeechProcessor, exist_ok=True)  # type: ignore[no-untyped-call]
