"""What setup.cfg has no place for: the compiled steps. Where there is no compiler, the package does without them."""

import sysconfig

from setuptools import Extension, setup

# one wheel for all versions of Python: the compiled steps know nothing of it
one_for_all = not sysconfig.get_config_var("Py_GIL_DISABLED")  # setuptools makes no such wheel where there is no lock

native = Extension(
    "speechtok.nn._native",
    ["speechtok/nn/native.c"],
    # every operation rounds by itself: the same bits on every machine, whatever CFLAGS ask for
    extra_compile_args=["-O3", "-ffp-contract=off", "-fno-fast-math", "-g0"],
    # with fast mathematics, the mere presence of a library takes very small numbers from the whole process
    extra_link_args=["-O3", "-fno-fast-math"],
    optional=True,
    py_limited_api=one_for_all,
)

setup(ext_modules=[native], options={"bdist_wheel": {"py_limited_api": "cp310"}} if one_for_all else {})
