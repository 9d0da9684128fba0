"""Compiles the native core; everything else is in pyproject.toml.

CLEW_SANITIZE=address builds it for AddressSanitizer (make asan).
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HOT = Path("src/clew/_hot")

flags = ["-O3", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wno-unused-function"]
if sanitizer := os.environ.get("CLEW_SANITIZE"):
    flags += [f"-fsanitize={sanitizer}", "-g", "-fno-omit-frame-pointer"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                ".".join(path.relative_to("src").with_suffix("").parts),
                [str(path)],
                depends=[str(header) for header in HOT.glob("*.h")],
                extra_compile_args=flags,
                extra_link_args=[f"-fsanitize={sanitizer}"] if sanitizer else [],
            )
            for path in sorted(HOT.glob("*.pyx"))
        ],
        compiler_directives={
            "language_level": "3",
            # Method descriptors of C, which the interpreter calls without making a bound method.
            "binding": False,
            "embedsignature": True,
            "embedsignature.format": "clinic",
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "freethreading_compatible": False,
        },
        build_dir="build/cython",
    ),
)
