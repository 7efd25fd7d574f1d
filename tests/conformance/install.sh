#!/usr/bin/env bash
# Installs the Autobahn Testsuite into a Python 3 virtual environment.   usage: install.sh VENV
#
# Upstream's last release is written for Python 2, so port.py translates the installed copy. That needs lib2to3,
# which Python 3.13 dropped, and autobahn needs 3.9: hence Python 3.9 to 3.12 (name another with PYTHON=...).
# The environment remembers what it was built from and is rebuilt only when that changes.
set -euo pipefail

venv=${1:?usage: install.sh VENV}
here=$(cd "$(dirname "$0")" && pwd)
packages=(
  attrs==25.3.0 autobahn==24.4.2 Automat==24.8.1 cffi==2.0.0 constantly==23.10.4 cryptography==46.0.3
  hyperlink==21.0.0 idna==3.10 incremental==24.7.2 pycparser==2.23 pyOpenSSL==25.3.0 service-identity==24.2.0
  setuptools==80.9.0 twisted==24.11.0 txaio==23.1.1 typing_extensions==4.15.0 wheel==0.45.1 wsaccel==0.6.7
  zope.interface==7.2
)
testsuite=autobahntestsuite==25.10.1

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10 python3.9}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "install.sh: no Python 3.9 to 3.12 found (set PYTHON=...)" >&2
  return 1
}

built_from=$(cat "$here"/install.sh "$here"/port.py "$here"/border.py | sha256sum | cut -d' ' -f1)
if [ "$(cat "$venv/built-from" 2>/dev/null)" = "$built_from" ]; then
  exit 0
fi

python=$(find_python)
echo "installing $testsuite into $venv" >&2
rm -rf "$venv"
"$python" -m venv "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install "${packages[@]}"
# Byte compilation is left out: it would complain about every Python 2 file.
"${pip[@]}" install --no-deps --no-build-isolation --no-compile "$testsuite"
"$venv/bin/python" -W ignore "$here/port.py"
"$venv/bin/python" -W ignore "$here/fuzz.py" --list >/dev/null
echo "$built_from" >"$venv/built-from"
