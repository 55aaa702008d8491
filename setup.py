"""Compile the kernels of the ``cpu`` backend if there is a C compiler, and ship ``configs``.

The kernels are plain C and use no header of Python or PyTorch, so one library serves every version.
SEQNORM_WITHOUT_KERNELS=1 in the environment leaves them out.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

SOURCES = Path("seqnorm/nn/backends/cpu/src")
FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
# Let the library run with an older glibc than that it was compiled with.
PORTABLE = [("SEQNORM_PORTABLE", "1")]
# By their names in entry.c: compiler flags, and bytes of a vector.
VARIANTS: dict[str, tuple[list[str], int]] = {"base": ([], 16)}
# The platform that is built for, also by a cross compiler (_PYTHON_HOST_PLATFORM).
if sysconfig.get_platform().endswith(("x86_64", "amd64")):
    VARIANTS["avx2"] = (["-mavx2", "-mfma"], 32)
    wide = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"]
    VARIANTS["avx512"] = ([*wide, "-mprefer-vector-width=512"], 64)


class BuildKernels(build_ext):
    """Compile the loop for every instruction set and both precisions into one library."""

    def build_extension(self, ext: Extension) -> None:
        objects = []
        for name, (flags, width) in VARIANTS.items():
            for precision in ("float", "double"):
                macros = [("VECTOR_BYTES", str(width)), ("SUFFIX", f"{name}_{precision}")]
                macros += PORTABLE
                if precision == "double":
                    macros.append(("SEQNORM_DOUBLE", "1"))
                objects += self.compiler.compile(
                    [str(SOURCES / "loop.c")],
                    output_dir=str(Path(self.build_temp) / f"{name}_{precision}"),
                    macros=macros,
                    extra_postargs=FLAGS + flags,
                    depends=ext.depends,
                )
        objects += self.compiler.compile(
            [str(SOURCES / "entry.c")],
            output_dir=self.build_temp,
            macros=PORTABLE,
            extra_postargs=FLAGS,
            depends=ext.depends,
        )
        target = self.get_ext_fullpath(ext.name)
        self.compiler.link_shared_object(objects, target, libraries=["m", "dl"])

    def get_ext_filename(self, fullname: str) -> str:
        # The library is not a Python module, so its name has no version of Python.
        return str(Path(*fullname.split("."))) + ".so"


class WithConfigs(build_py):
    """Copy the folder of configurations into the package; an editable installation finds it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "seqnorm" / "configs"
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree("configs", target)


class AnyPython(bdist_wheel):
    """A wheel for every Python, and for one platform if it has kernels."""

    def get_tag(self) -> tuple[str, str, str]:
        # The kernels are missing without a compiler, too.
        self.root_is_pure = not any(Path(self.bdist_dir).rglob("_kernels.so"))
        return "py3", "none", "any" if self.root_is_pure else super().get_tag()[2]


setup(
    cmdclass={"build_ext": BuildKernels, "build_py": WithConfigs, "bdist_wheel": AnyPython},
    ext_modules=[]
    if os.environ.get("SEQNORM_WITHOUT_KERNELS")
    else [
        Extension(
            "seqnorm.nn.backends.cpu._kernels",
            [str(SOURCES / "loop.c"), str(SOURCES / "entry.c")],
            depends=[str(path) for path in sorted(SOURCES.glob("*.h"))],
            optional=True,
        )
    ],
)
