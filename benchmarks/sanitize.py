"""The native kernels under AddressSanitizer and UndefinedBehaviorSanitizer, driven by their own tests.

python benchmarks/sanitize.py [--tests tests/kernels/test_native.py ...] [--levels plain avx2 ...]

Builds the kernels with g++ and the sanitizers beside the package's own library, runs pytest over the tests with that
library in its place, and ends with pytest's exit status. Sanitizers report the first bad read or write and end the
process (so pytest captures nothing). Needs g++ with libasan. Memory that torch allocates is watched too, since the
process has the sanitizer's malloc.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from multihead.kernels.cpu import native
from multihead.native import build

ROOT = Path(__file__).parents[1]
FLAGS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g1", "-O1")
TESTS = ("tests/kernels/test_native.py", "tests/kernels/test_layouts.py", "tests/kernels/test_linear.py",
         "tests/kernels/test_dropout.py", "tests/runtime/test_cpu_stack.py", "tests/runtime/test_cpu_decode.py",
         "tests/surface/test_preparing.py")  # fmt: skip


def runtime(name: str) -> str:
    """The path of a library of the compiler's."""
    done = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument(
        "--levels", nargs="*", help="watches these levels of instructions and the plain one; all when left out"
    )
    parser.add_argument("--library", type=Path, help="is built where it is not there, and kept")
    options = parser.parse_args()
    build.COMMON = (*build.COMMON, *FLAGS)
    if options.levels is not None:
        plain = ("-fno-sanitize=all",)
        build.LEVELS = {
            name: flags if name in options.levels else (*flags, *plain) for name, flags in build.LEVELS.items()
        }
    os.environ["CXX"] = "g++"
    with tempfile.TemporaryDirectory() as room:
        library = options.library or Path(room, "kernels.so")
        if not library.exists():
            print(build.build(library, link=("-fsanitize=address,undefined",)), flush=True)
        environment = {
            **os.environ,
            "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libubsan.so')} {runtime('libstdc++.so.6')}",
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:allocator_may_return_null=1:verify_asan_link_order=0",
            "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
            "MULTIHEAD_LIBRARY": str(library),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(native.FOLDER.parents[1]), str(ROOT)]),
        }
        tests = [str(ROOT / test) for test in options.tests if (ROOT / test).exists()]
        command = [sys.executable, "-c", RUN, *tests]
        raise SystemExit(subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode)


RUN = """
import os, sys
from pathlib import Path
from multihead.kernels.cpu import native
native.LIBRARY = Path(os.environ["MULTIHEAD_LIBRARY"])
native.REASON = native.LIBRARY.with_suffix(".txt")
assert native.library() is not None, native.why_not()
import pytest
sys.exit(pytest.main(["-n0", "-q", "-s", "-p", "no:cacheprovider", "-x", *sys.argv[1:]]))
"""

if __name__ == "__main__":
    main()
