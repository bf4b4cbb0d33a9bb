"""Make the listening page: ``python -m docs.listening --data DIR``.

``DIR`` holds the manifests ``test.jsonl`` and ``test-new.jsonl`` with the clips named in :data:`CLIPS`. The script
encodes each clip with the default tokenizer, decodes it with 8, 4, 2 and 1 codebooks, and lets the voice model generate
the other codebooks from codebook 0. It writes ``docs/listen/``: one FLAC file and one spectrogram per version, the page
itself, and the picture in the README. Run it again after the default tokenizer or its voice model changes. Needs the
``bench`` and ``train`` extras.
"""

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

import speechtok
from speechtok.metrics import pesq_wb, stoi
from speechtok.voice import VoiceModel
from training.manifest import Utterance, read_manifest

mpl.use("Agg")
from matplotlib import pyplot as plt

FOLDER = Path(__file__).parent / "listen"
MANIFESTS = "test.jsonl", "test-new.jsonl"
CLIPS = {
    "kathleen-1088": ("Kathleen", "US English"),
    "kathleen-0999": ("Kathleen", "US English"),
    "kerstin-0340": ("Kerstin", "German"),
    "kerstin-0783": ("Kerstin", "German"),
}
"""Utterance ids, with speaker and language. All are CC0."""

PROMPTS = {
    "kathleen-1088": {"Kathleen": "kathleen-0999", "Kerstin": "kerstin-0340"},
    "kathleen-0999": {"Kathleen": "kathleen-1088", "Kerstin": "kerstin-0340"},
    "kerstin-0340": {"Kerstin": "kerstin-0783", "Kathleen": "kathleen-1088"},
    "kerstin-0783": {"Kerstin": "kerstin-0340", "Kathleen": "kathleen-1088"},
}
"""For each clip, the voices that the voice model gives it, and the clips that they come from."""
PROMPT_SECONDS = 3
CODEBOOKS = 8, 4, 2, 1
README_CLIP, README_CODEBOOKS = "kathleen-1088", (8, 1)
WINDOW, HOP = 512, 64
"""Of the spectrograms, in samples: 32 ms and 4 ms at 16 kHz."""

HEAD = """<!-- Written by `python -m docs.listening --data DIR`; edit docs/listening.py instead. -->
# Listen

Four utterances, each as the original and decoded from 8, 4, 2 and 1 codebooks by the default tokenizer
`{fingerprint}` with the decoder `{decoder_fingerprint}`. All clips belong to test splits, which training never sees.

Use headphones. With all 8 codebooks, listen for the timbre of the voice and for breathy vowels, as the decoder writes
noise where the codes do not determine the waveform. With 1 codebook, words remain but the voice does not: codebook 0
carries phonetic content, and the other codebooks carry the voice.

The last two versions of a clip start from its codebook 0 alone. The [voice model](../voice.md) of the package generates
the other codebooks, once in the voice of another recording of the speaker, and once in the voice of the other speaker.
A prompt of 3 s gives the voice. Other recordings of both speakers were in the training data of the voice model. Its
figures for speakers that it has not heard are on [their page](../benchmarks/voice.md).

The files are 16-bit FLAC at 16 kHz. FLAC is lossless, so every difference between two clips comes from the tokenizer.
The spectrograms show 0 to 8 kHz over time; the colour scale covers 80 dB and is the same for all versions of a clip.
"""

TAIL = """
## Credits

| clips | source | licence |
|---|---|---|
| `kathleen-*` | the *kathleen* voice dataset of the Rhasspy project | CC0 1.0 |
| `kerstin-*` | the *kerstin* voice dataset of the Rhasspy project | CC0 1.0 |

The decoded files are derived from these recordings and are CC0 1.0 too.

## Reproduce this page

<!-- snippet: options only, needs the data -->
```bash
python -m docs.listening --data DIR
```

`DIR` holds the manifests `test.jsonl` and `test-new.jsonl`, which list the clips by id. PESQ-WB and STOI are computed
by this script on each clip alone; averages over a whole test split are on the [benchmarks](../benchmarks/index.md)
page.
"""


def find_clips(data: Path) -> dict[str, Utterance]:
    """The utterances of :data:`CLIPS` by id."""
    utterances = {u.id: u for name in MANIFESTS for u in read_manifest(data / name)}
    return {name: utterances[name] for name in CLIPS}


def read_prompt(tok: speechtok.Tokenizer, utterance: Utterance) -> speechtok.SpeechTokens:
    """The first :data:`PROMPT_SECONDS` of a clip."""
    waveform, sample_rate = speechtok.read_audio(utterance.audio)
    return tok.encode(waveform[: PROMPT_SECONDS * sample_rate], sample_rate)


def spectrogram(waveform: Tensor) -> np.ndarray:
    """Power in dB, ``(bins, frames)``."""
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(waveform, WINDOW, HOP, window=window, return_complex=True)
    return (20 * torch.log10(spectrum.abs() + 1e-6)).numpy()


def draw(axes: plt.Axes, power: np.ndarray, peak: float) -> None:
    """Draw a spectrogram whose colours cover 80 dB below ``peak``."""
    axes.imshow(power, origin="lower", aspect="auto", cmap="magma", vmin=peak - 80, vmax=peak)
    axes.set_xticks([])
    axes.set_yticks([])


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure as WebP and close it."""
    figure.savefig(path, pil_kwargs={"quality": 78, "method": 6})
    plt.close(figure)


def write_versions(
    tok: speechtok.Tokenizer, utterance: Utterance, voices: dict[str, speechtok.SpeechTokens]
) -> tuple[dict[str, Tensor], list[str]]:
    """Write the clip in all versions.

    Args:
        tok: the tokenizer.
        utterance: the clip.
        voices: prompts for the voice model, by name.

    Returns:
        Waveforms ``(S,)`` by version, and the cards of the page.
    """
    waveform, sample_rate = speechtok.read_audio(utterance.audio)
    tokens = tok.encode(waveform, sample_rate)
    versions = {"original": waveform}
    versions |= {str(q): tok.decode(tokens, num_codebooks=q)[0] for q in CODEBOOKS}
    model = VoiceModel(tok)
    versions |= {f"voice-{name}": tok.decode(model.complete(tokens, prompt))[0] for name, prompt in voices.items()}
    peak = float(spectrogram(waveform).max())
    cards = []
    for name, audio in versions.items():
        stem = f"{utterance.id}-{name.lower()}"
        speechtok.write_audio(FOLDER / f"{stem}.flac", audio, tok.sample_rate)
        figure, axes = plt.subplots(figsize=(4.8, 2.0), dpi=100)
        figure.subplots_adjust(0, 0, 1, 1)
        draw(axes, spectrogram(audio), peak)
        save(figure, FOLDER / f"{stem}.webp")
        if name == "original":
            title, note = "Original", "256 kbit/s PCM"
        elif name.startswith("voice-"):
            title = f"Codebook 0 in the voice of {name.removeprefix('voice-')}"
            note = f"{tok.bitrate / tok.num_codebooks / 1000:g} kbit/s and a prompt of {PROMPT_SECONDS} s"
        else:
            scores = [score(waveform, audio, tok.sample_rate) for score in (pesq_wb, stoi)]
            plural = "" if name == "1" else "s"
            title = f"{name} codebook{plural}"
            note = f"{tok.bitrate * int(name) / tok.num_codebooks / 1000:g} kbit/s"
            note += f", PESQ-WB {scores[0]:.2f}, STOI {scores[1]:.3f}"
        cards.append(
            f'<figure markdown="1">\n<figcaption><strong>{title}</strong> <span>{note}</span></figcaption>\n\n'
            f"![Spectrogram, {title[0].lower()}{title[1:]}]({stem}.webp)\n\n"
            f'<audio controls preload="none" src="{stem}.flac"></audio>\n</figure>\n'
        )
    return versions, cards


def draw_readme(versions: dict[str, Tensor]) -> None:
    """Draw the picture of the README: original beside two numbers of codebooks."""
    peak = float(spectrogram(versions["original"]).max())
    columns = {"original": "original"} | {str(q): f"{q} codebook{'s'[: q > 1]}" for q in README_CODEBOOKS}
    figure, axes = plt.subplots(1, len(columns), figsize=(9.6, 2.2), dpi=100)
    figure.subplots_adjust(0.004, 0.01, 0.996, 0.87, wspace=0.02)
    for panel, (name, title) in zip(axes, columns.items(), strict=True):
        draw(panel, spectrogram(versions[name]), peak)
        panel.set_title(title, fontsize=11)
    save(figure, FOLDER / "overview.webp")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with test.jsonl and test-new.jsonl")
    arguments = parser.parse_args()
    tok = speechtok.load()
    FOLDER.mkdir(exist_ok=True)
    page = [HEAD.format(fingerprint=tok.fingerprint, decoder_fingerprint=tok.decoder_fingerprint)]
    clips = find_clips(arguments.data)
    prompts = {name: read_prompt(tok, clip) for name, clip in clips.items()}
    for name, utterance in clips.items():
        voices = {voice: prompts[clip] for voice, clip in PROMPTS[name].items()}
        versions, cards = write_versions(tok, utterance, voices)
        if name == README_CLIP:
            draw_readme(versions)
        speaker, language = CLIPS[name]
        page.append(f"## {speaker}: “{utterance.text}”\n\n{language}, `{name}`, {utterance.seconds:.1f} s.\n")
        page.append('<div class="listen" markdown="1">\n\n' + "\n".join(cards) + "\n</div>\n")
    (FOLDER / "index.md").write_text("\n".join(page) + TAIL, encoding="utf-8")
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"wrote {FOLDER}: {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
