"""Compiles the native core; everything else is in pyproject.toml.

CLEW_SANITIZE=address builds it for AddressSanitizer (make asan). CLEW_WITHOUT_NATIVE=1 leaves it out: tools/setup
installs an editable clew so, because make compiles the core beside its sources, and only what changed.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

SOURCE = Path("src/clew")
sources = [] if os.environ.get("CLEW_WITHOUT_NATIVE") else sorted(SOURCE.rglob("*.pyx"))

flags = ["-O3", "-fno-strict-aliasing", "-fvisibility=hidden", "-Wno-unused-function"]
if sanitizer := os.environ.get("CLEW_SANITIZE"):
    flags += [f"-fsanitize={sanitizer}", "-g", "-fno-omit-frame-pointer"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                ".".join(path.relative_to("src").with_suffix("").parts),
                [str(path)],
                depends=[str(header) for header in SOURCE.rglob("*.h")],
                extra_compile_args=flags,
                extra_link_args=[f"-fsanitize={sanitizer}"] if sanitizer else [],
            )
            for path in sources
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
