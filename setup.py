"""What setup.cfg has no place for: the compiled steps. Where there is no compiler, the package does without them."""

from setuptools import Extension, setup

native = Extension(
    "speechtok.nn._native",
    ["speechtok/nn/native.c"],
    # every operation rounds by itself: the same bits on every machine
    extra_compile_args=["-O3", "-ffp-contract=off", "-g0"],
    optional=True,
    py_limited_api=True,
)

setup(ext_modules=[native])
