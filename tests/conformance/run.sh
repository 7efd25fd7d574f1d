#!/usr/bin/env bash
# Runs the Autobahn Testsuite against the server.   usage: run.sh [quick|full|deflate|CASES] [OPTIONS]; see --help
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/../../target/conformance/venv
"$here/install.sh" "$venv"
exec "$venv/bin/python" "$here/run.py" "$@"
