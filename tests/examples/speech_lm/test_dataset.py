import re

import torch

from examples.speech_lm import models
from examples.speech_lm.dataset import PRONUNCIATIONS, CropDataset, LanguageDataset
from examples.speech_lm.lexicon import Lexicon
from examples.speech_lm.prepare import prepare
from speechtok.lm.collator import IGNORE
from tests.examples.speech_lm.conftest import config_of


def ids_and_labels(dataset: LanguageDataset, epoch: int = 0) -> tuple[list[int], list[int]]:
    """Ids of the first example, and those of them that the model learns."""
    batch = dataset.batch([0], epoch)
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    assert torch.equal(labels[labels != IGNORE], ids[labels != IGNORE])
    return ids.tolist(), labels[labels != IGNORE].tolist()


def test_the_model_learns_speech_and_its_transcript_or_the_speech_of_a_text(values, tiny):
    config = config_of(values)
    processor = models.make_processor(config, tiny)
    utterance = prepare(config, tiny, "train")[0]
    v, speech = processor.vocabulary, processor.vocabulary.to_ids(utterance.tokens)[0].tolist()
    text = processor.tokenizer
    end = [text.eos_token_id]

    def learned(task: str) -> tuple[list[int], list[int]]:
        return ids_and_labels(LanguageDataset([utterance], processor, [task]))

    transcript = text("\nSaid: good morning")["input_ids"]
    assert learned("asr") == (speech + transcript + end, speech + transcript + end)
    prompt = text("Say: good morning\n")["input_ids"]
    assert learned("tts") == (prompt + speech + end, speech + end)
    assert learned("continuation") == (speech + end, speech + end)
    assert v.to_codes(speech).codes.tolist() == utterance.tokens.codes[:, :1].tolist()


def test_with_phones_words_phones_and_pieces_of_speech_alternate(values, tiny, lexicon):
    config = config_of(values, lexicon=lexicon)
    processor = models.make_processor(config, tiny)
    utterances = prepare(config, tiny, "train")
    utterance = utterances[1]
    v, text = processor.vocabulary, processor.tokenizer
    end = [text.eos_token_id]

    def learned(task: str) -> tuple[list[int], list[int]]:
        return ids_and_labels(LanguageDataset([utterance], processor, [task]))

    def bytes_of(some: str) -> list[int]:
        return text(some)["input_ids"]

    speech = [v.to_ids(utterance.tokens.crop(*cut))[0].tolist() for cut in ((0, 6), (6, 11), (11, 17), (17, 20))]
    spoken = [*bytes_of("Say: über 12 boote\n[über]b b"), *speech[0], *bytes_of("_"), *speech[1]]
    spoken += [*bytes_of("[12]i i"), *speech[2], *bytes_of("[boote]t t"), *speech[3]]
    chosen = [*bytes_of("[b "), *speech[0], *bytes_of("_"), *speech[1], *bytes_of("[i "), *speech[2]]
    assert learned("tts_phones") == (spoken + end, [*chosen, *bytes_of("[t "), *speech[3], *end])
    # b ends at frame 6, in time for the chunk that ends at 10; the pause at 11, which completes the word before it
    first, second = (v.to_ids(utterance.tokens.crop(*cut))[0].tolist() for cut in ((0, 10), (10, 20)))
    rest = bytes_of("[über]_i[12]t[boote]")
    assert learned("asr_phones") == (
        [*first, *bytes_of("b"), *second, *rest, *end],
        [v.bos_id, *bytes_of("b"), v.bos_id, *rest, *end],
    )
    assert not LanguageDataset(utterances[2:], processor, ["tts_phones", "asr_phones"]).lengths  # they have no phones


def test_pronunciations_are_those_of_the_lexicon_and_differ_by_epoch(values, tiny, lexicon):
    config = config_of(values, lexicon=lexicon)
    processor = models.make_processor(config, tiny)
    dataset = LanguageDataset(prepare(config, tiny, "train"), processor, ["pronunciation"], Lexicon(lexicon))
    ids, labels = ids_and_labels(dataset)
    words = re.findall(r"\[(.*?)\](.*?) ", processor.decode(ids).text)
    known = {"good": "g", "morning": "mc", "yes": "yEs", "boote": "t", "12": "i", "über": "b"}
    assert len(words) == PRONUNCIATIONS
    assert all(known[word] == letters for word, letters in words)
    assert processor.decode(labels).text == "".join(f"[{letters} " for _, letters in words)
    assert ids_and_labels(dataset) == (ids, labels) != ids_and_labels(dataset, epoch=1)


def test_crops_of_all_codebooks_are_drawn_for_each_epoch_and_learned_whole(values, tiny):
    config = config_of(values, stage="speech", pattern={"name": "flatten"}, num_codebooks=3)
    v = models.make_processor(config, tiny).vocabulary
    utterances = prepare(config, tiny, "train")
    dataset = CropDataset(utterances, v, frames=10, seed=0)
    assert len(dataset.lengths) == sum(utterance.tokens.codes.shape[2] // 10 for utterance in utterances)
    batch, again = dataset.batch([0, 1], 3), dataset.batch([0, 1], 3)
    assert torch.equal(batch["input_ids"], again["input_ids"])
    assert torch.equal(batch["labels"], batch["input_ids"])  # crops of one length have no padding
    for row, codes in enumerate(v.to_codes(batch["input_ids"]).codes):
        windows = utterances[0].tokens.codes[0].unfold(1, 10, 1)
        assert row or (windows == codes[:, None]).all(-1).all(0).any()
