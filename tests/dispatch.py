"""Run the numeric tests under the arithmetic that other processors would choose.

NumPy, SciPy, FAISS and torch pick their kernels by the processor they find. `make test-dispatch`
makes them pick others: four makes of OpenBLAS kernels, three levels of vector instructions, and one
or two threads, as far as this machine can run them. It ends with a table, and with status 1 if any
test failed. Words after the command go to pytest, such as `tests/geometry -k equal`.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a kernel's machine code takes of the processor.
AVX2, AVX512 = {"avx2", "fma"}, {"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"}
KERNELS = {"Prescott": set(), "Haswell": AVX2, "Zen": AVX2, "SkylakeX": AVX512}
LEVELS = {"NONE": set(), "AVX2": AVX2, "AVX512": AVX512}
# One level of instructions in every library that has a switch for it.
SWITCHES = {
    "FAISS_SIMD_LEVEL": ("NONE", "AVX2", "AVX512"),
    "ATEN_CPU_CAPABILITY": ("default", "avx2", "avx512"),
    "ONEDNN_MAX_CPU_ISA": ("SSE41", "AVX2", "AVX512_CORE"),
    "MKL_ENABLE_INSTRUCTIONS": ("SSE4_2", "AVX2", "AVX512"),
    "NPY_DISABLE_CPU_FEATURES": ("X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
                                 "X86_V4 AVX512_ICL AVX512_SPR", ""),
}  # fmt: skip
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def numeric_files() -> list[str]:
    """Return the files of tests whose results hang on how a processor adds up."""
    sys.path.insert(0, str(ROOT))
    from conftest import NUMERIC

    paths = (ROOT / "tests" / name for name in sorted(NUMERIC))
    return [str((p.parent / f"test_{p.name}.py").relative_to(ROOT)) for p in paths]


def features() -> set[str] | None:
    """Return what the processor can do, or None where it is not an x86-64 under Linux."""
    path = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not path.is_file():
        return None
    return set(re.search(r"^flags\s*:(.*)$", path.read_text(), re.M)[1].split())


def settings() -> list[tuple[dict[str, str], dict[str, str]]]:
    """Return the settings that this machine can run: their names, and their environment."""
    able, found = features(), []
    kinds = list(product(KERNELS, LEVELS)) if able is not None else [("its own", "its own")]
    for kernel, level in kinds:
        environment = {}
        if able is not None:
            if not KERNELS[kernel] | LEVELS[level] <= able:
                continue
            place = list(LEVELS).index(level)
            environment = {name: values[place] for name, values in SWITCHES.items()}
            environment["OPENBLAS_CORETYPE"] = kernel
        for threads in range(1, min(2, os.cpu_count() or 1) + 1):
            names = {"kernels": kernel, "instructions": level, "threads": str(threads)}
            found.append((names, environment | dict.fromkeys(THREADS, str(threads))))
    return found


def run(environment: dict[str, str], words: list[str]) -> tuple[bool, str, list[str]]:
    """Run the numeric tests in an environment: whether all passed, pytest's count, and what failed.

    No test is a failure too: nothing was proven.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=line", "-n0"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
    )  # fmt: skip
    lines = done.stdout.strip().split("\n")
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, lines[-1].strip("= ") or done.stderr[-300:], failed


def main(words: list[str]) -> int:
    """Run all settings, as many at a time as there are cores, and print the table."""
    began, every = time.time(), settings()
    # By name: collecting all files imports as much as the tests themselves take.
    words = words or numeric_files()
    cores, rows = os.cpu_count() or 1, {}
    for threads in ("1", "2"):
        part = [(names, env) for names, env in every if names["threads"] == threads]
        with ThreadPoolExecutor(max(1, cores // int(threads))) as pool:
            for (names, _), result in zip(
                part, pool.map(lambda job: run(job[1], words), part), strict=True
            ):
                rows[tuple(names.values())] = result
                print(f"  {' '.join(names.values())}: {result[1]}", file=sys.stderr, flush=True)
    print(f"\n{'kernels':<10}{'instructions':<14}{'threads':<9}{'':<8}tests")
    for (kernel, level, threads), (good, count, failed) in sorted(rows.items()):
        print(f"{kernel:<10}{level:<14}{threads:<9}{'ok' if good else 'FAILED':<8}{count}")
        print("".join(f"    {line}\n" for line in failed), end="")
    bad = sum(not good for good, _, _ in rows.values())
    print(f"{len(rows)} settings in {time.time() - began:.0f} s, {bad} of them failed")
    return int(bad > 0 or not rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
