#!/bin/sh
# Builds every peer from its lock files. Needs cargo, npm and python3.
set -eu
cd "$(dirname "$0")"
cargo build --locked --release
npm ci --prefix node
npm ci --prefix bun
python3 -m venv python/.venv
python/.venv/bin/pip install --quiet -r python/requirements.txt
