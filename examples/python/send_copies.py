#!/usr/bin/env python3
"""A municipality sends a file of register copies (docs/register-copy-format.md) over the ingest listener.

Writes a result file with one JSON line a record, in the order of the file: line, outcome, reason, field, rule. What stands
in it is durable at the provider. After a break, --resume goes on behind the last complete result.

Exit code 0: every line was taken. 1: some were refused. 2: it could not be sent to the end.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import threading
import time

import grpc

import wire

_, services = grpc.protos_and_services("koseki/ingest/v1/ingest.proto")
common = grpc.protos("koseki/common/v1/common.proto")

MAX_LINE_BYTES = 65_536
# The provider takes in 2,048 lines before it waits; fewer keep it busy, and are all that a break leaves open.
WINDOW_LINES = 256
PROGRESS_EVERY_S = 1.0
BROKEN = 2


class Broken(Exception):
    """The file was not sent to its end."""


def lines_of(file):
    """The lines of a binary file without their ends, None for one that is too long; never more than one in memory."""
    while chunk := file.readline(MAX_LINE_BYTES + 1):
        if len(chunk) <= MAX_LINE_BYTES or chunk.endswith(b"\n"):
            yield chunk.removesuffix(b"\n")
            continue
        while chunk and not chunk.endswith(b"\n"):
            chunk = file.readline(MAX_LINE_BYTES)
        yield None


def result(line, outcome, reason="", field="", rule=""):
    return {"line": line, "outcome": outcome, "reason": reason, "field": field, "rule": rule}


def from_wire(message):
    """A result as the file has it: names without the prefix that the enum gives them."""
    outcome = common.LineOutcome.Name(message.outcome).removeprefix("LINE_OUTCOME_")
    reason = common.LineReason.Name(message.reason).removeprefix("LINE_REASON_") if message.reason else ""
    return result(message.line_number, outcome, reason, message.field, message.rule)


class Window:
    """The lines that have been read and have no result yet, in order; it holds the reader back when it is full."""

    def __init__(self):
        self.changed = threading.Condition()
        self.open = collections.deque()
        self.in_flight = 0
        self.closed = False
        self.fault = None

    def messages(self, file, first):
        """Lines as messages, from the line numbered `first`; grpc takes them in a thread of its own."""
        number = 0
        try:
            for number, line in enumerate(lines_of(file), start=1):
                if number < first:
                    continue
                if not self.enter(number, line):
                    return
                if line is not None:
                    yield common.FileLine(line_number=number, line=line)
        except (OSError, ValueError) as fault:
            # grpc would only say that the iteration failed.
            self.fault = f"the file cannot be read: {fault}"
        else:
            if number < first - 1:
                self.fault = "there are more results than the file has lines"

    def enter(self, number, line):
        """Waits for room; whether there is still somebody to send to."""
        with self.changed:
            if line is None:
                # No server takes it: it gets its result here, when its turn comes, and waits for no room.
                rule = f"a line has at most {MAX_LINE_BYTES} bytes"
                self.open.append((number, result(number, "REFUSED", "TOO_LONG", rule=rule)))
            else:
                self.changed.wait_for(lambda: self.closed or self.in_flight < WINDOW_LINES)
                self.open.append((number, None))
                self.in_flight += 1
            return not self.closed

    def results(self, answers):
        """One result for each line, in order, as soon as it is there."""
        for answer in answers:
            yield from self.made_here()
            with self.changed:
                number, _ = self.open.popleft() if self.open else (None, None)
                self.in_flight -= 1
                self.changed.notify_all()
            if number != answer.line_number:
                raise Broken(f"a result for line {answer.line_number}, and not for line {number}")
            yield from_wire(answer)
        yield from self.made_here()
        if self.fault:
            raise Broken(self.fault)
        if self.open:
            raise Broken("the stream ended before every line had its result")

    def made_here(self):
        while True:
            with self.changed:
                if not self.open or self.open[0][1] is None:
                    return
                _, here = self.open.popleft()
            yield here

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify_all()


class Results:
    """The result file: what stands there from an earlier run, and what comes now."""

    def __init__(self, path, resume):
        self.counts = collections.Counter()
        self.file = open(path, "r+b" if resume and path.exists() else "w+b")
        complete = 0
        for line in self.file:
            # A run that was cut off in the middle of a line has not told what became of that one.
            if not line.endswith(b"\n"):
                break
            earlier = json.loads(line)
            if earlier["line"] != self.last + 1:
                raise Broken(f"{path} is not a result file: line {self.last + 1} is missing")
            self.counts[earlier["outcome"]] += 1
            complete += len(line)
        self.file.seek(complete)
        self.file.truncate()

    @property
    def last(self):
        """The number of the last line that has its result."""
        return self.counts.total()

    def add(self, made):
        self.file.write(json.dumps(made, ensure_ascii=False).encode() + b"\n")
        self.counts[made["outcome"]] += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.keep()
        self.file.close()

    def keep(self):
        self.file.flush()
        os.fsync(self.file.fileno())


def send(stub, file, results):
    """Sends what has no result yet."""
    window = Window()
    size = os.fstat(file.fileno()).st_size
    told = time.monotonic()
    call = stub.SendCopies(window.messages(file, results.last + 1))
    try:
        for made in window.results(call):
            results.add(made)
            if time.monotonic() - told >= PROGRESS_EVERY_S:
                told = time.monotonic()
                results.keep()
                print(f"{results.last} lines, about {100 * file.tell() // max(size, 1)} %", flush=True)
    finally:
        window.close()
        call.cancel()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", type=pathlib.Path, help="the register copies, one JSON object a line")
    arguments.add_argument("--ingest", required=True, help="host:port of the provider's ingest listener")
    arguments.add_argument("--certificate", required=True, type=pathlib.Path, help="the municipality's certificate, PEM")
    arguments.add_argument("--key", required=True, type=pathlib.Path, help="its private key, PEM")
    arguments.add_argument("--ca", required=True, type=pathlib.Path, help="the CA of the provider's certificate, PEM")
    arguments.add_argument("--results", required=True, type=pathlib.Path, help="the result file to write")
    arguments.add_argument("--resume", action="store_true", help="go on behind the last complete result of that file")
    options = arguments.parse_args()

    try:
        credentials = wire.credentials(options.certificate, options.key, options.ca)
        # The result file is touched only when there is something to send.
        with options.file.open("rb") as file, Results(options.results, options.resume) as results:
            if results.last:
                print(f"going on behind line {results.last}")
            with grpc.secure_channel(options.ingest, credentials) as channel:
                send(services.IngestStub(channel), file, results)
    except grpc.RpcError as error:
        reason, _ = wire.refusal(error)
        print(f"broken off: {error.code().name} {reason or error.details()}; go on with --resume", file=sys.stderr)
        return BROKEN
    except (OSError, ValueError, KeyError, Broken) as error:
        print(f"broken off: {error}", file=sys.stderr)
        return BROKEN
    counts = ", ".join(f"{count} {outcome.lower()}" for outcome, count in sorted(results.counts.items()))
    print(f"{results.last} lines: {counts or 'nothing to send'}")
    return 1 if results.counts["REFUSED"] else 0


if __name__ == "__main__":
    sys.exit(main())
