#!/usr/bin/env python3
"""The clients of `clients/` against the real server: their own tests, their types, and their examples in a browser.

Installs what they need at pinned versions under target/clients (npm, PyPI) and Chromium by apt-get. The last line is
`N passed, N failed`. Standard library only.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from install import Missing, install_node_modules, install_programs, install_venv  # noqa: E402
from server import REPOSITORY, ServerError, binary, die_with_parent, exit_on_sigterm  # noqa: E402

CACHE = REPOSITORY / "target/clients"
JS = REPOSITORY / "clients/js"
PYTHON = REPOSITORY / "clients/python"
VENV_PYTHON = CACHE / "venv/bin/python"
TSC = CACHE / "node/node_modules/.bin/tsc"
SECONDS_MAX = 300


def main():
    options = parse_arguments()
    exit_on_sigterm()
    chosen = {name: SUITES[name] for name in options.suite or SUITES}
    for name, (install, _) in chosen.items():
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            install()
        except (Missing, OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"{name} cannot be tested: {error}")
    if options.install_only:
        return 0
    os.environ["COREWIRE"] = str(binary().resolve())
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    passed = failed = 0
    for name, (_, steps) in chosen.items():
        started = time.monotonic()
        counts = [run_step(f"{name}: {what}", step) for what, step in steps.items()]
        suite_passed, suite_failed = map(sum, zip(*counts))
        seconds = time.monotonic() - started
        print(f"{name}: {suite_passed} passed, {suite_failed} failed; {seconds:.1f} s", flush=True)
        passed += suite_passed
        failed += suite_failed
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this one; may be repeated")
    parser.add_argument("--install-only", action="store_true", help="install what the suites need and stop")
    return parser.parse_args()


def run_step(name, step):
    """How many passed and failed; what the step wrote is shown if one failed."""
    try:
        return step()
    except subprocess.CalledProcessError as error:
        print(f"FAIL {name}: status {error.returncode}\n{error.output}")
    except subprocess.TimeoutExpired as late:
        print(f"FAIL {name}: no end in {SECONDS_MAX} s\n{(late.output or b'').decode(errors='replace')}")
    except Exception:
        print(f"FAIL {name}:\n{traceback.format_exc()}")
    return 0, 1


def command(*words, folder, **environment):
    """What it wrote. A status other than zero is an error."""
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS_MAX,
        preexec_fn=die_with_parent,
    )
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, output)
    return output


def counted(pattern, output):
    """The number that is found, so that a runner that ran nothing is no success."""
    found = re.search(pattern, output, re.MULTILINE)
    if not found or not int(found[1]):
        raise AssertionError(f"no tests were run:\n{output}")
    if re.search(r"skipped[= ]+[1-9]", output):
        raise AssertionError(f"tests were skipped:\n{output}")
    return int(found[1])


# JavaScript.


def install_js():
    if not shutil.which("node"):
        raise Missing("node is not on this machine")
    install_node_modules(CACHE / "node", JS)


def js_tests():
    # Before version 22, Node has its WebSocket only behind this flag; later versions know it still.
    flags = ["--experimental-websocket", "--test", "--test-concurrency=4", "--test-reporter=tap"]
    return counted(r"^# pass (\d+)", command("node", *flags, "tests/", folder=JS)), 0


def js_types():
    """The sources hold their own types, and an application in TypeScript gets them from the package."""
    command(TSC, "--project", "tsconfig.json", folder=JS)
    command(TSC, "--project", "tests/types/tsconfig.json", folder=JS)
    return 2, 0


# Python.


def install_python():
    install_venv(CACHE / "venv", HERE / "requirements.txt")


def python_tests():
    quiet = ["-W", "ignore::ResourceWarning"]
    words = [VENV_PYTHON, *quiet, "-m", "unittest", "discover", "--start-directory", "tests", "--buffer"]
    return counted(r"^Ran (\d+) tests", command(*words, folder=PYTHON, PYTHONPATH="src")), 0


def python_types():
    command(VENV_PYTHON, "-m", "mypy", "--cache-dir", CACHE / "mypy", folder=PYTHON)
    return 1, 0


# Examples.


def install_browser():
    install_python()
    install_programs(["chromium", "chromedriver"], ["chromium", "chromium-driver"], CACHE / "apt.log")


def examples():
    from examples import CHECKS, played

    with played(VENV_PYTHON) as stage:
        for name, check in CHECKS.items():
            try:
                check(stage)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
    return len(CHECKS), 0


def tutorial():
    from tutorial import follow_tutorial

    follow_tutorial()
    return 1, 0


SUITES = {
    "js": (install_js, {"tests": js_tests, "types": js_types}),
    "python": (install_python, {"tests": python_tests, "types": python_types}),
    "examples": (install_browser, {"in Chromium and a terminal": examples}),
    "tutorial": (install_browser, {"as it is written": tutorial}),
}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ServerError as error:
        sys.exit(f"{error}")
