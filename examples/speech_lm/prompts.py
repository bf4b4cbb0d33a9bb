"""Texts of the tasks, as ids and as sequences of text and speech."""

from examples.speech_lm.phones import LETTERS, SILENCE, transcription_chunks
from examples.speech_lm.prepare import TokenizedUtterance
from speechtok.errors import InputError
from speechtok.lm import SpeechProcessor
from speechtok.tokens import SpeechTokens

TTS_PROMPT = "Say: {text}\n"
"""Text before speech that says it."""

ASR_PROMPT = "\nSaid:"
"""Text between speech and its transcript, which follows after a space."""

PHONE_LETTERS = "".join([*dict.fromkeys(LETTERS.values()), SILENCE])
"""Letters of all phones, silence last."""

MARKUP = "[] "
"""Characters around words and after their phones."""

Part = tuple[str | SpeechTokens, bool]
"""A text or speech, and whether the model learns to write it. Of other speech, it learns the start token only."""


def opening_ids(processor: SpeechProcessor) -> list[int]:
    """Ids that the text tokenizer puts before every text."""
    text = processor.tokenizer
    return [i for i in text("")["input_ids"] if i != text.eos_token_id]


def text_ids(processor: SpeechProcessor, text: str) -> list[int]:
    """Ids of a piece of text, without special tokens."""
    return list(processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def letter_ids(processor: SpeechProcessor, letters: str) -> list[int]:
    """Ids of single letters.

    Raises:
        InputError: the text tokenizer does not have one distinct id for each letter.
    """
    ids = [text_ids(processor, letter) for letter in letters]
    if any(len(i) != 1 for i in ids) or len({i[0] for i in ids}) < len(letters):
        raise InputError(
            f"the text tokenizer has the ids {str(ids)[:80]} for the letters {letters!r}; expected one id each, to "
            "write phones: choose another text tokenizer, or lexicon=''"
        )
    return [i for (i,) in ids]


def pronunciation_parts(word: str, letters: str) -> list[Part]:
    """A word, its phones and a space, such as ``[bear]bEr``. The model learns the brackets and the phones."""
    return [("[", True), (word, False), ("]", False), *((letter, True) for letter in letters), (" ", True)]


def asr_parts(utterance: TokenizedUtterance) -> list[Part]:
    """Speech in chunks, and after each chunk the phones and words that have ended."""
    parts: list[Part] = []
    for speech, written in transcription_chunks(utterance.tokens, utterance.words):
        parts += [(speech, False), *((letter, True) for letter in written)]
    return parts


def tts_parts(utterance: TokenizedUtterance) -> list[Part]:
    """A text, and for each of its words the phones, and for each phone its speech."""
    parts: list[Part] = [(TTS_PROMPT.format(text=utterance.text), False)]
    begin = 0
    for word in utterance.words:
        if word.text:
            parts += pronunciation_parts(word.text, "".join(phone.letter for phone in word.phones))
        for phone in word.phones:
            is_pause = not word.text  # where to pause is the model's choice
            parts += [(phone.letter, is_pause), (utterance.tokens.crop(begin, begin + phone.frames), True)]
            begin += phone.frames
    return parts
