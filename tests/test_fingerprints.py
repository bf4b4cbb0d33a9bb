"""Fingerprints: of what makes the codes; names in code, new decoders and earlier versions do not change them."""

import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import speechtok
from speechtok import ConvNeXtTokenizer, SpeechTokens
from speechtok.errors import CheckpointError, ConfigError, FingerprintError, InputError, MissingFileError
from speechtok.fingerprints import NAMED_TOKENIZERS, canonical_fingerprint

RATE = 16_000

NAMES_IN_FILES = [
    "decoder.frame_blocks.blocks.0.contract.bias",
    "decoder.frame_blocks.blocks.0.contract.weight",
    "decoder.frame_blocks.blocks.0.conv.bias",
    "decoder.frame_blocks.blocks.0.conv.weight",
    "decoder.frame_blocks.blocks.0.expand.bias",
    "decoder.frame_blocks.blocks.0.expand.weight",
    "decoder.head.bias",
    "decoder.head.weight",
    "decoder.patch_blocks.blocks.0.contract.bias",
    "decoder.patch_blocks.blocks.0.contract.weight",
    "decoder.patch_blocks.blocks.0.conv.bias",
    "decoder.patch_blocks.blocks.0.conv.weight",
    "decoder.patch_blocks.blocks.0.expand.bias",
    "decoder.patch_blocks.blocks.0.expand.weight",
    "decoder.project.bias",
    "decoder.project.weight",
    "decoder.split.bias",
    "decoder.split.weight",
    "encoder.embed.bias",
    "encoder.embed.weight",
    "encoder.frame_blocks.blocks.0.contract.bias",
    "encoder.frame_blocks.blocks.0.contract.weight",
    "encoder.frame_blocks.blocks.0.conv.bias",
    "encoder.frame_blocks.blocks.0.conv.weight",
    "encoder.frame_blocks.blocks.0.expand.bias",
    "encoder.frame_blocks.blocks.0.expand.weight",
    "encoder.merge.bias",
    "encoder.merge.weight",
    "encoder.patch_blocks.blocks.0.contract.bias",
    "encoder.patch_blocks.blocks.0.contract.weight",
    "encoder.patch_blocks.blocks.0.conv.bias",
    "encoder.patch_blocks.blocks.0.conv.weight",
    "encoder.patch_blocks.blocks.0.expand.bias",
    "encoder.patch_blocks.blocks.0.expand.weight",
    "encoder.project.bias",
    "encoder.project.weight",
    "quantizer.codebooks",
]


def fill(tok: ConvNeXtTokenizer) -> ConvNeXtTokenizer:
    """Weights that depend on nothing but their names' order, as random ones may depend on PyTorch's version."""
    state = {
        name: (torch.arange(tensor.numel(), dtype=torch.float32) * 37 % 101 / 64 - 0.5).view(tensor.shape)
        for name, tensor in sorted(tok.named_tensors().items())
    }
    tok.load_named_tensors(state)
    return tok


def as_version_1(directory, tok) -> None:
    """Rewrite a saved tokenizer's config.json as version 0.1 wrote it."""
    path = directory / "config.json"
    config = json.loads(path.read_text())["config"]
    path.write_text(json.dumps({"speechtok": "0.1.0", "fingerprint": tok.version_1_fingerprint, "config": config}))


@pytest.fixture
def other_decoder(new_tokenizer, tmp_path):
    """A tokenizer, and the folder of one with its codes and another decoder."""
    tok, other = new_tokenizer(), new_tokenizer()
    other.decoder.head.bias.add_(0.5)
    other.save(tmp_path / "other")
    return tok, other, tmp_path / "other"


def test_names_in_files_and_fingerprints_are_frozen(new_tokenizer):
    """A rename in code must not change them: it goes into ``tensor_names``, ``codes_dict`` and ``decoder_dict``."""
    tok = fill(new_tokenizer())
    assert sorted(tok.named_tensors()) == sorted(NAMES_IN_FILES)
    assert tok.fingerprint == "59b150ca0dcf4c0e"
    assert tok.decoder_fingerprint == "b6814b439473bd97"
    assert tok.version_1_fingerprint == "0bd267de5d3042a1"


def test_a_tensor_that_is_renamed_in_code_keeps_its_name_in_files(tiny, monkeypatch):
    names = {pattern: name.replace("embed", "patchify") for pattern, name in tiny.tensor_names.items()}
    monkeypatch.setattr(ConvNeXtTokenizer, "tensor_names", names)
    assert "encoder.patchify.weight" in tiny.named_tensors()


def test_encoder_and_codebooks_change_the_fingerprint_and_the_decoder_does_not(new_tokenizer):
    tok = new_tokenizer()
    codes, decoder = tok.fingerprint, tok.decoder_fingerprint
    tok.decoder.head.bias.add_(0.5)
    assert tok.fingerprint == codes
    assert tok.decoder_fingerprint != decoder
    tok.encoder.embed.bias.add_(0.5)
    assert tok.fingerprint != codes
    second = tok.fingerprint
    tok.quantizer.codebooks.mul_(2)
    assert tok.fingerprint != second


@given(st.text(max_size=20))
def test_an_unknown_fingerprint_stays_as_it_is(text):
    assert canonical_fingerprint(text) == text or text == "18d457da55bebdd2"


def test_the_first_default_is_known_by_its_old_fingerprint():
    tok = speechtok.load("speechtok-v1")
    assert tok.made("18d457da55bebdd2")
    codes = torch.zeros(1, 8, 2, dtype=torch.int64)
    old = SpeechTokens(codes, torch.tensor([2]), torch.tensor([640]), RATE, 320, 1024, "18d457da55bebdd2")
    assert old.fingerprint == tok.fingerprint
    assert torch.equal(tok.decode(old), tok.decode(codes))


def test_every_named_tokenizer_loads_and_the_newest_is_the_default():
    names = list(NAMED_TOKENIZERS)
    assert speechtok.load().fingerprint == speechtok.load(names[-1]).fingerprint
    with pytest.raises(InputError, match="revision is 'main' with an embedded tokenizer"):
        speechtok.load(names[0], revision="main")
    with pytest.raises(MissingFileError, match="speechtok-v0 does not exist"):
        speechtok.load("speechtok-v0")


class TestDecoders:
    def test_a_new_decoder_decodes_tokens_made_before(self, other_decoder, speech):
        tok, other, folder = other_decoder
        tokens = tok.encode(speech(0.3), RATE)
        combined = tok.with_decoder(folder)
        assert (combined.fingerprint, combined.decoder_fingerprint) == (tok.fingerprint, other.decoder_fingerprint)
        assert torch.equal(combined.decode(tokens), other.decode(tokens))
        assert not torch.equal(combined.decode(tokens), tok.decode(tokens))
        assert torch.equal(combined.encode(speech(0.3), RATE).codes, tokens.codes)

    def test_the_first_tokenizer_and_its_weights_stay_apart(self, other_decoder):
        tok, _, folder = other_decoder
        before = tok.fingerprint, tok.decoder_fingerprint
        combined = tok.with_decoder(folder)
        combined.encoder.embed.bias.add_(1.0)
        assert (tok.fingerprint, tok.decoder_fingerprint) == before

    def test_tokens_of_version_1_outlive_their_decoder_through_save_and_load(self, other_decoder, speech, tmp_path):
        tok, _, folder = other_decoder
        tokens = tok.encode(speech(0.3), RATE)
        old = SpeechTokens(
            tokens.codes, tokens.lengths, tokens.num_samples, RATE, 320, tok.codebook_size, tok.version_1_fingerprint
        )
        assert torch.equal(tok.decode(old), tok.decode(tokens))
        tok.with_decoder(folder).save(tmp_path / "combined")
        again = speechtok.load(tmp_path / "combined")
        assert tok.version_1_fingerprint in again.aliases
        assert torch.equal(again.decode(old), again.decode(tokens))

    def test_a_decoder_of_a_checkpoint_of_version_1_fits(self, other_decoder, tmp_path):
        tok, *_ = other_decoder
        tok.save(tmp_path / "first")
        as_version_1(tmp_path / "first", tok)
        first = speechtok.load(tmp_path / "first")
        assert first.aliases == (tok.version_1_fingerprint,)
        assert first.with_decoder(tmp_path / "first").decoder_fingerprint == tok.decoder_fingerprint

    def test_a_decoder_of_other_codes_is_refused(self, new_tokenizer, tmp_path):
        tok = new_tokenizer()
        new_tokenizer(1).save(tmp_path)
        with pytest.raises(FingerprintError, match="expected a decoder that was trained for the same codes"):
            tok.with_decoder(tmp_path)

    def test_a_decoder_whose_weights_were_changed_is_refused(self, other_decoder, new_tokenizer):
        tok, other, folder = other_decoder
        other.decoder.head.bias.add_(1.0)
        other.save(folder.parent / "changed")
        shutil.copy(folder.parent / "changed" / "model.safetensors", folder)
        with pytest.raises(CheckpointError, match="one of them was changed"):
            tok.with_decoder(folder)

    def test_what_is_no_folder_of_a_tokenizer_is_refused(self, tiny, tmp_path):
        with pytest.raises(MissingFileError, match="does not exist"):
            tiny.with_decoder(tmp_path / "nowhere")
        (tmp_path / "config.json").write_text('{"config": {"family": "nonsense"}, "fingerprint": "x"}')
        with pytest.raises(ConfigError, match=r"family is 'nonsense'"):
            tiny.with_decoder(tmp_path)


class TestVersion1:
    def test_its_checkpoints_load_and_are_saved_in_the_new_format(self, new_tokenizer, tmp_path):
        tok = new_tokenizer()
        tok.save(tmp_path)
        as_version_1(tmp_path, tok)
        loaded = speechtok.load(tmp_path)
        assert loaded.fingerprint == tok.fingerprint
        loaded.save(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["aliases"] == [tok.version_1_fingerprint]
        assert speechtok.load(tmp_path).aliases == (tok.version_1_fingerprint,)

    def test_its_checkpoints_are_still_checked(self, new_tokenizer, tmp_path):
        tok = new_tokenizer()
        tok.save(tmp_path)
        as_version_1(tmp_path, tok)
        tok.decoder.head.bias.add_(1.0)
        tok.save(tmp_path / "changed")
        shutil.copy(tmp_path / "changed" / "model.safetensors", tmp_path)
        with pytest.raises(CheckpointError, match="one of them was changed"):
            speechtok.load(tmp_path)


def test_aliases_end_when_the_codes_change(new_tokenizer):
    tok = new_tokenizer()
    tok.add_aliases(["a" * 16])
    assert tok.made("a" * 16)
    tok.encoder.embed.bias.add_(0.5)
    assert tok.aliases == ()
    assert not tok.made("a" * 16)
