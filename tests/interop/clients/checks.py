"""What the two Python clients share: their arguments, their payloads and how they report."""

import asyncio
import json
import sys

GIVEN = dict(argument.split("=", 1) for argument in sys.argv[1:])
TEXTS = json.loads(GIVEN["texts"])
SIZES = json.loads(GIVEN["sizes"])
CLOSES = json.loads(GIVEN["closes"])
PATIENCE_SECONDS = 40


def octets(size):
    return bytes(index * 31 % 256 for index in range(size))


def run_checks(*checks):
    """Prints `ok CHECK` or `FAIL CHECK: reason` for each."""
    for check in checks:
        name = check.__name__.replace("_", "-")
        try:
            asyncio.run(asyncio.wait_for(check(), PATIENCE_SECONDS))
            print(f"ok {name}", flush=True)
        except Exception as error:  # whatever it is, the check did not pass
            print(f"FAIL {name}: {type(error).__name__}: {str(error)[:300]!r}", flush=True)
