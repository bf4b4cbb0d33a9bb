"""Codecs that the benchmarks compare, behind one interface: waveform to bits and back to a waveform.

A codec is named by a specification: ``NAME``, ``NAME:NUMBER`` or ``NAME:NUMBER@SOURCE``. ``SOURCE`` is a local
directory or a name on the Hugging Face hub.

| specification | codec |
|---|---|
| ``speechtok``, ``speechtok:4``, ``speechtok:4@DIR`` | the default, its first 4 codebooks, another tokenizer |
| ``speechtokenizer:8@DIR`` | the published SpeechTokenizer; ``DIR`` holds ``config.json`` and ``SpeechTokenizer.pt`` |
| ``encodec:6@SOURCE`` | EnCodec at 6 kbit/s |
| ``mimi:8@SOURCE``, ``dac:4@SOURCE`` | Mimi with 8 codebooks, DAC with 4 |
| ``xcodec:1@SOURCE`` | X-Codec at 1 kbit/s |
| ``xcodec2@SOURCE``, ``snac@SOURCE`` | X-Codec 2 and SNAC, by their own packages |
| ``lyra:6000@DIR`` | Lyra V2 at 6000 bit/s (3200, 6000 or 9200); ``DIR`` holds its TFLite models |
| ``opus:6`` | Opus by FFmpeg at a nominal 6 kbit/s (6 to 256) |
| ``codec2:3200`` | Codec 2 in mode 3200; needs the programs ``c2enc`` and ``c2dec`` |
| ``identity`` | unchanged 16-bit samples: the upper bound of every metric |
| ``lowpass``, ``lowpass:3500`` | low-pass filter at 1000 Hz or 3500 Hz: the low anchor of ITU-R BS.1534 |
"""
