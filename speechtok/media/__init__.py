"""Audio files: which decoder reads what, and the checks that a file was read whole.

One file goes through these rooms: :mod:`source` opens it, :mod:`signature` recognizes it by its first bytes, a
*planner* (:mod:`chunks`, :mod:`flac`, :mod:`ogg`, :mod:`mpeg`, :mod:`containers`) walks its structure to the last byte
and says what has to come out, a *decoder* (:mod:`sndfile`, :mod:`ffmpeg`) decodes it block by block into
:mod:`mono`, and :mod:`reader` compares both.
"""
