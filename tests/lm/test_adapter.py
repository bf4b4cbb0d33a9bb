import pytest
import torch

from speechtok.errors import FingerprintError, InputError
from speechtok.lm import SpeechAdapter


def test_embed_returns_the_sums_of_the_codebook_vectors(tiny, speech):
    audio = torch.zeros(2, 3200)
    audio[0], audio[1, :1000] = torch.from_numpy(speech(0.2)), torch.from_numpy(speech(0.2))[:1000]
    tokens = tiny.encode(audio, 16_000, lengths=[3200, 1000])
    vectors = tiny.embed(tokens)
    assert vectors.shape == (2, 10, 8)
    expected = sum(tiny.quantizer.codebooks[q][tokens.codes[0, q]] for q in range(4))
    torch.testing.assert_close(vectors[0], expected)
    assert not vectors[1, 4:].any()
    torch.testing.assert_close(tiny.embed(tokens.codes, 1)[1], tiny.quantizer.codebooks[0][tokens.semantic[1]])
    assert tiny.embed(torch.zeros(2, 4, 0, dtype=torch.int64)).shape == (2, 0, 8)


def test_embed_refuses_tokens_of_another_tokenizer(tiny, new_tokenizer, speech):
    with pytest.raises(FingerprintError):
        new_tokenizer(1).embed(tiny.encode(speech(0.1), 16_000))


def test_the_adapter_trains_on_the_output_of_embed(tiny):
    codes = torch.randint(32, (2, 4, 10))
    adapter = SpeechAdapter(8, 16, stack=4)
    out, lengths = adapter(tiny.embed(codes), torch.tensor([10, 5]))
    assert out.shape == (2, 3, 16)
    assert lengths.tolist() == [3, 2]
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())


def test_the_output_for_an_utterance_does_not_depend_on_its_batch(tiny):
    vectors = tiny.embed(torch.randint(32, (2, 4, 10)))
    vectors[1, 5:] = 0
    adapter = SpeechAdapter(8, 16, stack=3)
    batch, lengths = adapter(vectors, torch.tensor([10, 5]))
    alone, _ = adapter(vectors[1:, :5], torch.tensor([5]))
    torch.testing.assert_close(batch[1, : lengths[1]], alone[0])
    assert adapter(vectors[:, :0], torch.zeros(2, dtype=torch.int64))[0].shape == (2, 0, 16)


@pytest.mark.parametrize("arguments", [(0, 16, 4), (8, 1.5, 4), (8, 16, 0)])
def test_sizes_that_are_not_whole_numbers_above_0_are_refused(arguments):
    with pytest.raises(InputError, match="whole number above 0"):
        SpeechAdapter(*arguments)


def test_vectors_of_another_width_are_refused():
    with pytest.raises(InputError, match=r"expected \(B, T, 8\)"):
        SpeechAdapter(8, 16)(torch.zeros(1, 4, 9), torch.tensor([4]))
