#!/usr/bin/env python3
"""Autobahn's fuzzing client, run inside the environment that install.sh makes. run.py is for people.

fuzz.py --list     prints the id of every case, one per line
fuzz.py SPEC       runs the cases of a specification (JSON, upstream's format) and writes the reports it names
"""

import json
import sys

from autobahntestsuite import fuzzing
from twisted.internet import reactor


def main(argument):
    if argument == "--list":
        print("\n".join(case.__name__[len("Case") :].replace("_", ".") for case in fuzzing.Cases))
        return
    with open(argument) as file:
        specification = json.load(file)
    fuzzing.startClient(specification)  # stops the reactor after the last case
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
