"""Fuzzers: random inputs of each kind, most of them well-formed at first sight.

Each kind is a module with a class ``Inputs`` (see :class:`tests.fuzz.runner.Fuzzer`) and a function ``run``. A bounded
run of each is part of the tests. Long runs are made by command, in a process of their own::

    python -m tests.fuzz tokens --count 100000 --seed 1
    python -m tests.fuzz tokens --seed 1 --only 4711    # one input again, with its traceback
"""
