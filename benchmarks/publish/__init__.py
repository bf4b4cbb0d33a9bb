"""The results in the documentation: one file, from which all tables and the figure are made.

``python -m benchmarks.publish report/`` reads ``report.json`` in the folder, and ``tokens.json``, ``conditions.json``
and ``semantics.json`` if they are there. It writes their means and intervals to ``docs/benchmarks/results.json``, and
makes every marked table and the figure from that file. Without a folder, it makes them again; with ``--check``, it only
says whether they are up to date. With ``--keep``, the codecs and benchmarks that the folder lacks keep their results:
after a new decoder, the other codecs need not be measured again.

A marked table stands between ``<!-- benchmarks: NAME -->`` and ``<!-- end -->``. The names are those of
:data:`benchmarks.publish.tables.TABLES`.
"""
