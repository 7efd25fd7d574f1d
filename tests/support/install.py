"""Installs what tests need, under `target/`, once. Standard library only."""

import hashlib
import os
import shutil
import subprocess
import sys

from server import REPOSITORY


class Missing(Exception):
    """A tool that a test needs and that could not be installed."""


def when_changed(stamp, sources, build):
    """Builds unless the stamp says that it was built from these sources."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"installing {stamp.parent.relative_to(REPOSITORY)}", file=sys.stderr)
        build()
        stamp.write_text(digest)


def install_venv(venv, pinned):
    """A Python environment with what a requirements file names."""

    def build():
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        pip = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "--requirement", pinned], check=True)

    when_changed(venv / "built-from", [pinned], build)


def install_node_modules(folder, package):
    """What a `package.json` and its lock file name, in `node_modules` of `folder`."""
    if not shutil.which("npm"):
        raise Missing("npm is not on this machine")
    sources = [package / "package.json", package / "package-lock.json"]

    def build():
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            shutil.copy(source, folder)
        command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=folder, check=True)

    when_changed(folder / "built-from", sources, build)


def install_programs(programs, packages, log_path):
    """Has Debian's packages installed unless all the programs are there."""
    if all(map(shutil.which, programs)):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "-q", "update"], ["apt-get", "-q", "-y", "install", *packages]):
        with open(log_path, "ab") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"{program} is not in {' or '.join(packages)}")
