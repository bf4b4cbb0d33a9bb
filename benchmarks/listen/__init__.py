"""A listening test in the manner of MUSHRA (ITU-R BS.1534-3): made, taken in a browser, and analysed.

``python -m benchmarks.listen make --data DIR --codec speechtok:8 --codec opus:12 --out test/`` decodes some utterances
and writes ``index.html``, one page that needs no other file and no network, and ``key.json``, which tells the codecs
apart and must not be given to listeners. Every trial has an open reference and, in random order and without names, each
codec, the reference again, and a low-pass filter at 3.5 kHz as the anchor. The page saves the ratings as a JSON file.

``python -m benchmarks.listen analyse test/key.json RESULTS.json ...`` leaves out listeners who do not recognise the
hidden reference, and prints means with 95 % confidence intervals.

| file | content |
|---|---|
| ``make.py`` | the page and the key |
| ``page.html`` | the page, with a place for the trials |
| ``results.py`` | reading and analysing results |
"""
