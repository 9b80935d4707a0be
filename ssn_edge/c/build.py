"""``python -m ssn_edge.c.build FOLDER``: libssn_edge.so.2, its header and ssn_edge.pc, with a C compiler.

The library embeds the Python that builds it, through cffi, and looks for ssn-edge where that Python has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import List

import click

import ssn_edge
from ssn_edge.commands.error_line import one_line_errors
from ssn_edge.errors import BackendError
from ssn_edge.files import replacing

HERE = Path(__file__).parent
LINK, LIBRARY = "libssn_edge.so", "libssn_edge.so.2"
"""What a program is linked with, and what it then asks for: the number is the header's SSN_EDGE_ABI."""

EXTERN = """
extern "Python" void py_open(const ssn_options *, ssn_detector *, int32_t *, char *);
extern "Python" void py_info(ssn_detector, ssn_model *, int32_t *, char *);
extern "Python" void py_infer(ssn_detector, const ssn_frame *, float *, uint64_t, uint8_t *, uint64_t,
                              ssn_result *, int32_t *, char *);
extern "Python" void py_close(ssn_detector, int32_t *, char *);
"""

START = """
import os, site, sys
given = [p for p in os.environ.get("SSN_EDGE_PATH", "").split(os.pathsep) if p]
before = list(sys.path)
for folder in given + {folders!r}:
    site.addsitedir(folder)
added = [p for p in sys.path if p not in before]
sys.path[:] = given + [p for p in added if p not in given] + before
from _ssn_edge import ffi, lib
from ssn_edge.c import embedded
embedded.bind(ffi, lib)
"""

PKG_CONFIG = """prefix={folder}

Name: ssn_edge
Description: SuperSimpleNet surface-defect detection for camera loops in C
Version: {version}
Cflags: -I${{prefix}}
Libs: -L${{prefix}} -lssn_edge -Wl,-rpath,${{prefix}}
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--sanitize", is_flag=True, help="With AddressSanitizer, for tests.")
@one_line_errors
def main(folder: Path, sanitize: bool) -> None:
    """Write libssn_edge.so.2, its link libssn_edge.so, ssn_edge.h and ssn_edge.pc into FOLDER."""
    build(folder.resolve(), ["-fsanitize=address", "-g"] if sanitize else [])
    click.echo(f"{folder}: {LIBRARY}, {LINK}, ssn_edge.h, ssn_edge.pc")


def build(folder: Path, flags: List[str]) -> None:
    """BackendError where cffi or a shared libpython is missing."""
    try:
        import cffi
    except ImportError:
        raise BackendError("cffi is missing; run: pip install cffi setuptools") from None
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        raise BackendError(
            f"{sys.executable} has no shared library to embed; use the system's Python with python3-dev, or "
            "one that was configured with --enable-shared"
        )
    header = (HERE / "ssn_edge.h").read_text()
    types = header.split("/* types */")[1].split("/* end of types */")[0]
    ffi = cffi.FFI()
    ffi.embedding_api("")
    ffi.cdef(types + EXTERN)
    ffi.set_source(
        "_ssn_edge", (HERE / "boundary.c").read_text(), include_dirs=[str(HERE)],
        py_limited_api=False,  # boundary.c starts Python itself
        define_macros=[("SSN_PYTHON", json.dumps(sys.executable))],
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-missing-field-initializers",
                            "-Wno-unused-parameter", "-fvisibility=hidden", *flags],
        extra_link_args=[
            f"-Wl,-soname,{LIBRARY}", f"-Wl,-rpath,{sysconfig.get_config_var('LIBDIR')}", *flags,
        ],
    )
    ffi.embedding_init_code(START.format(folders=search_path()))
    with tempfile.TemporaryDirectory() as temporary:
        made = ffi.compile(tmpdir=temporary, target=LINK)
        with replacing(folder / LIBRARY) as new:
            shutil.copyfile(made, new)
    link(folder / LINK, LIBRARY)
    with replacing(folder / "ssn_edge.h") as new:
        new.write_text(header)
    with replacing(folder / "ssn_edge.pc") as new:
        new.write_text(PKG_CONFIG.format(folder=folder, version=ssn_edge.__version__))


def link(path: Path, target: str) -> None:
    """A symbolic link in the place of whatever file was there, at once: a program may be starting."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    new.symlink_to(target)
    new.replace(path)


def search_path() -> List[str]:
    """Where this Python has ssn-edge and the libraries it needs."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([str(Path(ssn_edge.__file__).parents[1]), paths["purelib"], paths["platlib"]]))


if __name__ == "__main__":
    main()
