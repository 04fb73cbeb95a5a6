"""Builds and runs the fuzzers: `python tests/fuzz/run.py native|archive|tflite --seconds 60`.

native: libFuzzer with the address and undefined-behaviour sanitizers over the C++ readers (clang++ is needed).
archive: mutated archives through the Python reader, with the manifest's lies told in its own terms.
tflite: mutated TFLite files through the reader and the packer.
The corpus of the repository is read and left as it is. What makes a fuzzer fail is kept in the working folder.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NATIVE = ROOT / "native"
SOURCES = [path for path in sorted(NATIVE.glob("*.cpp")) if not path.stem.endswith(("_bind", "module"))]
"""All but Python's bindings."""
SANITIZERS = (
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=undefined",
    "-ffp-contract=off",
    "-g",
    "-O1",
    "-std=c++17",
    "-pthread",
)


def native(seconds: int, found: Path) -> int:
    """Exit code of the fuzzer."""
    compiler = shutil.which("clang++") or sys.exit(
        "fuzz: clang++ must be installed. Received none. apt-get install clang."
    )
    binary = found / "native_fuzz"
    build = [
        compiler,
        *SANITIZERS,
        "-w",
        f"-I{NATIVE}",
        str(HERE / "native_fuzz.cpp"),
        *map(str, SOURCES),
        "-o",
        str(binary),
    ]
    subprocess.run(build, check=True)
    (found / "inputs").mkdir()
    options = [
        f"-max_total_time={seconds}",
        "-max_len=3000",
        "-timeout=10",
        "-rss_limit_mb=1500",
        "-print_final_stats=1",
    ]
    corpus = [str(found / "inputs"), str(HERE / "corpus" / "native")]
    return subprocess.run([str(binary), *options, f"-artifact_prefix={found}/", *corpus], check=False).returncode


def archive(seconds: int, found: Path) -> int:
    """Exit code of the fuzzer."""
    command = [sys.executable, str(HERE / "archive_fuzz.py"), "--seconds", str(seconds), "--found", str(found)]
    return subprocess.run(command, check=False).returncode


def tflite(seconds: int, found: Path) -> int:
    """Exit code of the fuzzer."""
    command = [sys.executable, str(HERE / "tflite_fuzz.py"), "--seconds", str(seconds), "--found", str(found)]
    return subprocess.run(command, check=False).returncode


def main() -> None:
    """Run one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fuzzer", choices=["native", "archive", "tflite"])
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder)
        code = {"native": native, "archive": archive, "tflite": tflite}[options.fuzzer](options.seconds, found)
        kept = [path for path in found.iterdir() if path.name.startswith(("crash", "timeout", "oom", "leak"))]
        for path in kept:
            shutil.copy(path, Path.cwd() / path.name)
            sys.stderr.write(f"fuzz: kept {path.name}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
