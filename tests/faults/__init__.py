"""Faults at the worst moment: kills, full disks, failing disks and vanishing inputs, while files are written.

A small library in C, loaded before all others, makes a chosen call of the system fail, or ends the process there: the
n-th that creates, writes, syncs or renames a file below a folder. A bounded run is part of the tests. Long runs are
made by command, and need Linux and a C compiler::

    python -m tests.faults encode --faults kill --trials 20 --files 10000 --in-a-row
    python -m tests.faults training --faults full-disk,failing-disk --trials 50
"""
