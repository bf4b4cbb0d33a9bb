"""The compiled part of the package. It is optional: where it cannot be compiled, PyTorch computes the same codes."""

import os
import sysconfig

from setuptools import Extension, setup

# The library does not use Python's API, so one wheel serves all versions. A free-threaded Python has no stable ABI.
stable_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")

if os.name == "nt":  # Microsoft's compiler
    compile_args, link_args = ["/O2", "/fp:precise"], []
else:
    # Each operation rounds separately, whatever CFLAGS say, so that all machines compute the same bits.
    compile_args = ["-O3", "-ffp-contract=off", "-fno-fast-math", "-g0"]
    # A library linked with -ffast-math would disable subnormal numbers in the whole process.
    link_args = ["-O3", "-fno-fast-math"]

native = Extension(
    "speechtok.nn.native._native",
    ["speechtok/nn/native/native.c"],
    depends=["speechtok/nn/native/voice.h"],
    define_macros=[("SPEECHTOK_VOICE", "1")],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
    optional=True,
    py_limited_api=stable_abi,
)

setup(ext_modules=[native], options={"bdist_wheel": {"py_limited_api": "cp310"}} if stable_abi else {})
