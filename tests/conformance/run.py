#!/usr/bin/env python3
"""Runs the Autobahn Testsuite's fuzzing client against the server and judges it strictly.

A case passes when its behaviour and its closing handshake are both OK or INFORMATIONAL. NON-STRICT, UNIMPLEMENTED
(compression declined), WRONG CODE, UNCLEAN, FAILED BY CLIENT and a case without a result all fail. The last line is
`N passed, N failed`. Start it with run.sh, which first installs the suite.
"""

import argparse
import collections
import fnmatch
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from server import REPOSITORY, Server, ServerError, die_with_parent, exit_on_sigterm  # noqa: E402

CASE_COUNT = 517
PASSING = {"OK", "INFORMATIONAL"}
SAMPLE_LIMITS = "9.1.1,9.1.2,9.2.1,9.2.2,9.3.9,9.4.9,9.5.6,9.6.6,9.7.*,9.8.*"
SAMPLE_DEFLATE = "12.1.1,12.1.3,12.1.10,12.1.11,12.2.3,12.3.18,12.4.6,12.5.3,13.?.1,13.?.11"
SETS = {
    "quick": f"1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*,{SAMPLE_LIMITS},{SAMPLE_DEFLATE}",
    "deflate": SAMPLE_DEFLATE,
    "full": "*",
}


def main():
    options = parse_arguments()
    exit_on_sigterm()
    selected = select_cases(options.cases)
    started = time.monotonic()
    passed = failed = 0
    for run in runs(options):
        run_passed, run_failed = run_suite(options, selected, **run)
        passed += run_passed
        failed += run_failed
    print(f"{len(selected)} cases selected, {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 0 if passed and not failed else 1


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="?", default="quick", help="quick, deflate, full, or patterns such as 1.*,6.4.2")
    parser.add_argument("--driver", choices=["io-uring", "epoll", "both"], default="both")
    parser.add_argument("--deflate", choices=["shared", "dedicated"], default="shared")
    parser.add_argument("--tls", action="store_true", help="over wss, with a certificate made for the run")
    parser.add_argument("--url", help="test this running server instead of starting one")
    parser.add_argument("--jobs", type=int, default=4, help="fuzzing clients at a time")
    parser.add_argument("--limit", type=int, default=3600, help="seconds after which a run is given up")
    parser.add_argument("--reports", type=Path, default=REPOSITORY / "target/conformance/reports")
    return parser.parse_args()


def select_cases(wanted):
    """The ids of the wanted cases, in the suite's order. A pattern without a case is an error."""
    listed = subprocess.run([sys.executable, HERE / "fuzz.py", "--list"], check=True, capture_output=True, text=True)
    cases = listed.stdout.split()
    if len(cases) != CASE_COUNT:
        raise SystemExit(f"the suite has {len(cases)} cases instead of {CASE_COUNT}")
    patterns = SETS.get(wanted, wanted).split(",")
    for pattern in patterns:
        if not fnmatch.filter(cases, pattern):
            raise SystemExit(f"no case matches {pattern}")
    return [case for case in cases if any(fnmatch.fnmatchcase(case, pattern) for pattern in patterns)]


def runs(options):
    """One run for each server: its name and how to start it."""
    if options.url:
        yield {"name": "url", "server_options": None}
        return
    tls = []
    if options.tls:
        certificates = REPOSITORY / "target/conformance/tls"
        subprocess.run([sys.executable, HERE.parent / "support/make_cert.py", certificates], check=True)
        tls = ["--tls-cert", certificates / "cert.pem", "--tls-key", certificates / "key.pem"]
    for driver in ["io-uring", "epoll"] if options.driver == "both" else [options.driver]:
        arguments = ["--driver", driver, "--deflate", options.deflate, "--max-message-bytes", "64M", *tls]
        name = f"{driver}-{options.deflate}" + ("-tls" if options.tls else "")
        yield {"name": name, "server_options": [str(argument) for argument in arguments]}


def run_suite(options, selected, name, server_options):
    """Runs the selected cases against one server; returns how many passed and failed."""
    started = time.monotonic()
    reports = options.reports / name
    shutil.rmtree(reports, ignore_errors=True)  # nothing of an earlier run may count
    if server_options is None:
        results = fuzz(options, selected, name, options.url, reports)
        server_failed = 0
    else:
        try:
            with Server("echo", *server_options) as server:
                results = fuzz(options, selected, name, server.url, reports)
            server_failed = 0
        except ServerError as error:
            print(f"FAIL {name}: {error}")
            results, server_failed = read_results(reports), 1
    passed = judge(name, selected, results)
    behaviors = collections.Counter(results[case]["behavior"] for case in selected if case in results)
    missing = sum(case not in results for case in selected)
    counts = ", ".join(f"{count} {behavior}" for behavior, count in sorted(behaviors.items())) or "none ran"
    seconds = time.monotonic() - started
    print(f"{name}: {len(selected)} cases: {counts}, {missing} missing; {seconds:.0f} s", flush=True)
    return passed, len(selected) - passed + server_failed


def fuzz(options, selected, name, url, reports):
    """Spreads the cases over fuzzing clients and waits for all of them."""
    clients = []
    log_paths = []
    try:
        for index in range(min(options.jobs, len(selected))):
            part = reports / f"part-{index}"
            part.mkdir(parents=True)
            specification = {
                "outdir": str(part),
                "servers": [{"agent": f"corewire-{name}", "url": url.rstrip("/") + "/"}],
                # txaio's timer cuts the deadline to a whole second: the default of 1 s can be 5 ms.
                "options": {"closeHandshakeTimeout": 2},
                # Neighbours cost about the same, so every n-th case makes even parts.
                "cases": selected[index :: options.jobs],
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
            specification_path = part / "spec.json"
            specification_path.write_text(json.dumps(specification))
            log_paths.append(part / "fuzz.log")
            with open(log_paths[-1], "wb") as log:
                command = [sys.executable, "-W", "ignore", HERE / "fuzz.py", specification_path]
                clients.append(subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent))
        give_up_at = time.monotonic() + options.limit
        for client, log_path in zip(clients, log_paths):
            try:
                status = client.wait(max(0, give_up_at - time.monotonic()))
            except subprocess.TimeoutExpired:
                status = "no end within the limit"
            if status != 0:
                print(f"{name}: a fuzzing client ended with {status}; the end of {log_path}:")
                print(log_path.read_text(errors="replace")[-2000:])
    finally:
        for client in clients:
            client.kill()
            client.wait()
    return read_results(reports)


def read_results(reports):
    """Case id to result, from what every fuzzing client wrote at its end."""
    results = {}
    for index in reports.glob("part-*/index.json"):
        for cases in json.loads(index.read_text()).values():
            for case, result in cases.items():
                results[case] = {**result, "report": index.parent / result["reportfile"].replace(".json", ".html")}
    return results


def judge(name, selected, results):
    """Prints what failed; returns how many passed."""
    passed = 0
    for case in selected:
        result = results.get(case)
        if result is None:
            print(f"FAIL {name} {case}: no result")
        elif result["behavior"] in PASSING and result["behaviorClose"] in PASSING:
            passed += 1
        else:
            print(
                f"FAIL {name} {case}: {result['behavior']}, closing {result['behaviorClose']}"
                f" with {result['remoteCloseCode']}: {result['report']}"
            )
    return passed


if __name__ == "__main__":
    sys.exit(main())
