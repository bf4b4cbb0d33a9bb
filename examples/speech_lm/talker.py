"""Inference with trained models: text to speech, speech to text, and speech continuation."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import LogitsProcessorList

import speechtok
from examples.speech_lm import models
from examples.speech_lm.dataset import LanguageDataset
from examples.speech_lm.phone_writer import MAX_PHONES, PhoneWriter, write_batch
from examples.speech_lm.phones import split_words, transcription_chunks
from examples.speech_lm.prepare import TokenizedUtterance, normalise_text
from examples.speech_lm.prompts import ASR_PROMPT, PHONE_LETTERS, TTS_PROMPT, letter_ids, opening_ids
from examples.speech_lm.trainer import token_losses
from examples.speech_lm.voice import Voice
from speechtok.errors import InputError
from speechtok.lm import BOS_TOKEN, PLACEHOLDER_TOKEN, AudioStreamer, SpeechLogitsProcessor

MAX_SECONDS = 16.0
"""Longest generated utterance, similar to the training data."""

MAX_TEXT_IDS = 300
"""Longest transcript."""

GUIDANCE = 2.0
"""Default strength of the guidance."""

GENERATED_BY = "examples.speech_lm"
"""Marks tokens that the language model wrote."""


class Talker:
    """A language model of text and codebook 0.

    Args:
        directory: folder ``model`` of a training of the stage ``language``.

    Raises:
        SpeechtokError: the model is missing or damaged.
    """

    def __init__(self, directory: str | Path) -> None:
        self.model, self.processor, self.config = models.load_model(directory)
        self.tokenizer, self.vocabulary = self.processor.speech_tokenizer, self.processor.vocabulary

    def say(
        self,
        text: str,
        candidates: int = 1,
        temperature: float = 0.0,
        guidance: float = 0.0,
        play: Callable[[Tensor], object] | None = None,
        voice: Voice | None = None,
    ) -> TokenizedUtterance:
        """Synthesize codebook 0 of a text.

        Args:
            text: the text.
            candidates: number of candidates; the one with the most likely transcript is kept.
            temperature: of sampling; 0 for greedy choice.
            guidance: strength of the guidance, for models that speak through phones; 0 for none.
            play: receives each chunk of audio ``(S,)`` as soon as it is generated. There is one candidate then.
            voice: speaks what is played; without it, codebook 0 is decoded alone.

        Raises:
            InputError: the text is empty, or the speech is.
        """
        text = normalise_text(text)
        if not text:
            raise InputError("the text is empty; expected something to say")
        streamer = None
        if play is not None:
            stream = None if voice is None else voice.stream
            streamer, candidates = AudioStreamer(self.vocabulary, self.tokenizer, play, joined=True, voice=stream), 1
        generated = self._generate_speech(text, candidates, temperature, guidance, streamer)
        spoken = [utterance for utterance in generated if utterance.tokens.codes.shape[2]]
        if not spoken:
            raise InputError(
                f"the model generated no speech for {text[:80]!r}; train longer, or raise the temperature or the "
                "number of candidates"
            )
        if len(spoken) == 1:
            return spoken[0]
        return min(spoken, key=lambda utterance: (len(missing_words(utterance)), self.transcript_nll(utterance)))

    def transcribe(self, tokens: speechtok.SpeechTokens) -> tuple[str, str]:
        """Transcribe an utterance, a batch of one.

        Returns:
            The text, and the letters of the phones; the latter are empty for models without phones.
        """
        if self.config.lexicon:
            return self._transcribe_phones(tokens)
        prompt = self.processor(PLACEHOLDER_TOKEN + ASR_PROMPT, [tokens])["input_ids"]
        written = self._generate(prompt, max_new_tokens=MAX_TEXT_IDS, eos_token_id=self._text_end)
        return normalise_text(self.processor.decode(written[0, prompt.shape[1] :]).text), ""

    def continue_speech(self, tokens: speechtok.SpeechTokens, seconds: float, temperature: float = 0.8) -> Tensor:
        """Continue an utterance, a batch of one, by at most ``seconds``. Returns codes of codebook 0, ``(T,)``."""
        begun = self.vocabulary.to_ids(tokens)[:, :-1]  # without the end token
        prompt = torch.cat([torch.tensor([opening_ids(self.processor)], dtype=torch.int64), begun], 1)
        whole = self._generate_codes(prompt, seconds, 1, temperature, min_seconds=seconds / 2)[0]
        frames = tokens.codes.shape[2]
        # a run-length id stands for several frames, so that there may be more than requested
        return whole[0, frames : frames + int(seconds * tokens.frame_rate)]

    def transcript_nll(self, utterance: TokenizedUtterance) -> float:
        """Negative log-likelihood of the transcript of an utterance, and of its phones if it has them."""
        task = "asr_phones" if utterance.words else "asr"
        batch = LanguageDataset([utterance], self.processor, [task]).batch([0], 0)
        with torch.inference_mode():
            nll, labels = token_losses(self.model, batch, self.config)
        # a start token means that no more text follows
        return float(nll[(labels >= 0) & (labels <= self.vocabulary.bos_id)].sum())

    @property
    def _text_end(self) -> int | None:
        return self.processor.tokenizer.eos_token_id

    def _generate_speech(
        self,
        text: str,
        candidates: int,
        temperature: float,
        guidance: float = 0.0,
        streamer: AudioStreamer | None = None,
    ) -> list[TokenizedUtterance]:
        """Candidates for the speech of a text."""
        candidates = candidates if temperature else 1  # greedy candidates would be identical
        if not self.config.lexicon:
            prompt = self.processor(TTS_PROMPT.format(text=text) + BOS_TOKEN)["input_ids"]
            generated = self._generate_codes(prompt, MAX_SECONDS, candidates, temperature, streamer=streamer)
            return [TokenizedUtterance("", text, "", self.to_tokens(codes)) for codes in generated]
        words = split_words(text)
        if not words:
            raise InputError(f"the text is {text[:80]!r}, which has no words; expected something to pronounce")
        prompt = self.processor(TTS_PROMPT.format(text=text))["input_ids"].expand(candidates, -1)
        writers = [PhoneWriter(self.processor, words, MAX_SECONDS).write() for _ in range(candidates)]
        spoken = write_batch(self.model, prompt, writers, self.vocabulary, temperature, guidance, streamer)
        return [TokenizedUtterance("", text, "", self.to_tokens(codes), found) for codes, found in spoken]

    @torch.inference_mode()
    def _transcribe_phones(self, tokens: speechtok.SpeechTokens) -> tuple[str, str]:
        """Read an utterance in chunks, and write the most likely phones and words after each."""
        v, ids = self.vocabulary, opening_ids(self.processor)
        letters = dict(zip(letter_ids(self.processor, PHONE_LETTERS), PHONE_LETTERS, strict=True))
        open_id, close_id = letter_ids(self.processor, "[]")
        outside = torch.tensor([*letters, open_id, v.bos_id])  # a phone, a word, or the next chunk
        inside = torch.arange(v.offset)
        chunks = [chunk for chunk, _ in transcription_chunks(tokens, ())]
        phones, words, cache, read = "", [], None, 0
        for number, chunk in enumerate(chunks, 1):
            ids += v.to_ids(chunk)[0].tolist()
            if number == len(chunks):
                outside[-1] = open_id if self._text_end is None else self._text_end
            word: list[int] | None = None  # the word in progress
            for remaining in reversed(range(MAX_PHONES)):
                out = self.model(input_ids=torch.tensor([ids[read:]]), past_key_values=cache, use_cache=True)
                cache, read = out.past_key_values, len(ids)
                allowed = outside if word is None else inside
                best = int(allowed[out.logits[0, -1, allowed].argmax()])
                if word is None:
                    if best == open_id and remaining:
                        word = []
                    elif best in letters:
                        phones += letters[best]
                    else:
                        break
                elif remaining and best not in (close_id, self._text_end):
                    word.append(best)
                else:
                    words.append(self.processor.decode(word).text)
                    word, best = None, close_id
                ids.append(best)
        return normalise_text(" ".join(words)), phones

    def _generate_codes(
        self,
        prompt: Tensor,
        seconds: float,
        candidates: int,
        temperature: float,
        min_seconds: float = 0.0,
        streamer: AudioStreamer | None = None,
    ) -> list[Tensor]:
        """Continue the utterance of a prompt ``(1, L)``. Returns codes ``(Q, T)``, those of the prompt included."""
        v = self.vocabulary
        rows = self._generate(
            prompt,
            max_new_tokens=max(1, int(seconds * v.steps_per_second)),
            min_new_tokens=int(min_seconds * v.steps_per_second),
            eos_token_id=v.eos_id,
            logits_processor=LogitsProcessorList([SpeechLogitsProcessor(v)]),
            num_return_sequences=candidates,
            streamer=streamer,
            **({"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}),
        )
        begin = int((prompt[0] == v.bos_id).nonzero()[-1])
        return [v.to_codes(row[begin:], strict=False).codes[0] for row in rows]

    def _generate(self, prompt: Tensor, **arguments: object) -> Tensor:
        pad = self.vocabulary.pad_id
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=prompt, attention_mask=torch.ones_like(prompt), pad_token_id=pad, **arguments
            )
        assert isinstance(out, Tensor)
        return out

    def to_tokens(self, codes: Tensor) -> speechtok.SpeechTokens:
        """Wrap generated codes ``(Q, T)`` as an utterance of the tokenizer."""
        frames = torch.tensor([codes.shape[1]])
        t = self.tokenizer
        return speechtok.SpeechTokens(
            codes[None],
            frames,
            frames * t.hop_length,
            t.sample_rate,
            t.hop_length,
            t.codebook_size,
            t.fingerprint,
            GENERATED_BY,
        )


def write_speech(path: str | Path, audio: Tensor, tokens: speechtok.SpeechTokens) -> None:
    """Write a waveform ``(S,)`` of generated tokens; the metadata of the file says what generated them."""
    speechtok.write_audio(path, audio, tokens.sample_rate, f"generated by {tokens.generated_by}")


def missing_words(utterance: TokenizedUtterance) -> list[str]:
    """Words at the end of a text that were not spoken for lack of time; empty if the model does not speak by words."""
    spoken = sum(bool(word.text) for word in utterance.words)
    return split_words(utterance.text)[spoken:] if utterance.words else []
