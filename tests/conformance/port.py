#!/usr/bin/env python3
"""Translates the installed autobahntestsuite from Python 2 to Python 3, in place.

Run by install.sh with the interpreter of its fresh environment. Three steps for each file that the fuzzing client
needs: edits by hand (EDITS, each must match as often as it says), renamed and relative imports (RULES), and syntax
(lib2to3). Sources are read as latin-1, so every octet of a literal becomes one character: see border.py.
The rest of the package (servers, WAMP, wsperf) is removed.
"""

import re
import shutil
import sysconfig
from importlib import metadata
from lib2to3 import refactor
from pathlib import Path

VERSION = "25.10.1"
KEPT = {"__init__.py", "_version.py", "border.py", "case", "caseset.py", "fuzzing.py", "report.py", "testdata"}
SYNTAX = ["print", "except", "raise", "has_key", "xrange", "ne", "numliterals"]

# Pattern and replacement, for every file.
RULES = [
    (r"^from (case\w*|report) import", r"from .\1 import"),
    (r"^import binascii$", r"from autobahntestsuite import border as binascii"),
    # `object` before a class that derives from it has no method resolution order in Python 3.
    (r"\(object, Case, ?\)", r"(Case,)"),
    (r", debug = debug, debugCodePaths = debug\b", r""),
    (r"\(self, debug = debug, debugCodePaths = debug\)", r"(self)"),
]

# File: (old, new, how often).
EDITS = {
    "case/__init__.py": [
        ("from case9_9_1 import *\n", "", 1),  # not in upstream's list of cases
    ],
    "case/case.py": [
        ("import pickle\n", "", 1),
        # Equal values need not pickle equally.
        ("pickle.dumps(obj1) == pickle.dumps(obj2)", "obj1 == obj2", 1),
    ],
    "case/case6_x_x.py": [
        ("v.validate(vss[:i])", "v.validate(vss[:i].encode('latin-1'))", 1),
    ],
    "case/case10_1_1.py": [
        ("len(self.payload) / self.p", "len(self.payload) // self.p", 1),
    ],
    "case/case12_x_x.py": [
        (
            "import copy, os, pkg_resources, hashlib, binascii\n",
            "import copy, os, hashlib\nfrom autobahntestsuite import border as binascii, border as pkg_resources\n",
            1,
        ),
        # autobahn renamed the parameters of its compression offers.
        ("requestNoContextTakeover =", "request_no_context_takeover =", 10),
        ("requestMaxWindowBits =", "request_max_window_bits =", 10),
        ("x.requestNoContextTakeover,", "x.request_no_context_takeover,", 1),
        ("x.requestMaxWindowBits)", "x.request_max_window_bits)", 1),
        ("offer.acceptNoContextTakeover", "offer.accept_no_context_takeover", 3),
        ("offer.acceptMaxWindowBits", "offer.accept_max_window_bits", 4),
    ],
    "fuzzing.py": [
        (
            "import os, json, binascii, time, textwrap, pkg_resources\n",
            "import os, json, time, textwrap\nfrom autobahntestsuite import border, border as binascii\n",
            1,
        ),
        (
            "class FuzzingProtocol:\n",
            "from autobahntestsuite.border import binLogData, asciiLogData\n\n"
            "class FuzzingProtocol(border.BytesProtocol):\n",
            1,
        ),
        ("self.runCase.onPong(payload)", "self.runCase.onPong(border.characters(payload))", 1),
        ("self.runCase.onMessage(msg,", "self.runCase.onMessage(border.received(self.runCase, msg),", 1),
        ("p = ''.join(payload)", "p = b''.join(payload)", 1),
        ("self.http_request_data if", "border.characters(self.http_request_data) if", 1),
        ("self.http_response_data if", "border.characters(self.http_response_data) if", 1),
        ("open(os.path.join(outdir, report_filename), 'w')", "border.ReportFile(outdir, report_filename)", 4),
        ("json.dumps(case, sort_keys", "json.dumps(case, default = border.json_default, sort_keys", 1),
        ('c[1])).encode("utf-8"))', "c[1])))", 1),
        ("ll.encode('utf8')", "border.characters(ll.encode('utf8'))", 1),
    ],
    "report.py": [
        ("import jinja2\n", "", 1),
        ('           "JS_MASTER_REPORT",\n           "HtmlReport")', '           "JS_MASTER_REPORT")', 1),
    ],
}


def main():
    found = metadata.version("autobahntestsuite")
    if found != VERSION:
        raise SystemExit(f"port.py: made for autobahntestsuite {VERSION}, found {found}")
    package = Path(sysconfig.get_path("purelib")) / "autobahntestsuite"
    for entry in package.iterdir():
        if entry.name not in KEPT:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copy(Path(__file__).with_name("border.py"), package)
    (package / "__init__.py").write_text("from ._version import __version__\nversion = __version__\n")
    (package / "case" / "case9_9_1.py").unlink()

    syntax = refactor.RefactoringTool([f"lib2to3.fixes.fix_{name}" for name in SYNTAX])
    edits = dict(EDITS)
    modules = [package / name for name in ("caseset.py", "fuzzing.py", "report.py")]
    for path in [*modules, *sorted(package.glob("case/*.py"))]:
        name = path.relative_to(package).as_posix()
        source = path.read_bytes().decode("latin-1").replace("\r\n", "\n").expandtabs(3).rstrip() + "\n"
        if name == "report.py":  # the constants; what follows is the HTML writer of the WAMP suite
            source = source[: source.index("REPORT_DIR_PERMISSIONS")]
        source = str(syntax.refactor_string(by_rule(by_hand(name, source, edits.pop(name, []))), name))
        compile(source, str(path), "exec")
        path.write_text(source, encoding="utf-8")
    if edits:
        raise SystemExit(f"port.py: no such files: {', '.join(edits)}")


def by_hand(name, source, edits):
    for old, new, count in edits:
        if source.count(old) != count:
            raise SystemExit(f"port.py: {name}: expected {count} x {old!r}, found {source.count(old)}")
        source = source.replace(old, new)
    return source


def by_rule(source):
    for pattern, replacement in RULES:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    return source


if __name__ == "__main__":
    main()
