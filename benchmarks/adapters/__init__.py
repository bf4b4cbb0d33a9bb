"""speechtok in the benchmarks of others, so that anyone with their models and data can add our row.

| file | benchmark |
|---|---|
| ``codec_superb.py`` | Codec-SUPERB (Wu et al. 2024, arXiv 2402.13071): a codec class |
| ``audio_codecs.py`` | ``audiocodecs`` (Della Libera): a codec class |
| ``versa.py`` | VERSA (Shi et al. 2024, arXiv 2412.17667): decoded files, their lists, and a configuration |
"""
