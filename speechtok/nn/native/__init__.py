"""The ``convnext`` family in compiled code (``native.c``), for few frames at a time and without PyTorch's overhead.

A frame is a few hundred operations on small arrays, and PyTorch spends most of its time on calling them. The arithmetic
is exact (:mod:`speechtok.nn.exact`), so compiled code gives the same bits; they are compared before it is used. Where
the library was not compiled, or disagrees, or on other devices than a CPU, the modules compute.
"""

from speechtok.nn.native.cache import NativeCache as NativeCache
from speechtok.nn.native.library import is_faster as is_faster
from speechtok.nn.native.library import use_isa as use_isa
from speechtok.nn.native.steps import NativeDecoder as NativeDecoder
from speechtok.nn.native.steps import NativeEncoder as NativeEncoder
from speechtok.nn.native.steps import NativeTurns as NativeTurns
