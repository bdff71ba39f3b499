#!/usr/bin/env python3
"""A portal frontend over gRPC: login with a card, consent with its receipt, request, and the record of it with the proof that it
stands in a countersigned log, for three scenario persons of the sandbox.

Exits with 0 only when each came out as scenarios.json expects.
"""

import argparse
import base64
import json
import os
import pathlib
import sys
import time
import uuid

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

import record_proof
import wire

portal, services = grpc.protos_and_services("portal/v1/portal.proto")
common = grpc.protos("koseki/common/v1/common.proto")
evidence = grpc.protos("koseki/evidence/v1/evidence.proto")

PERSONS = ["ordinary", "suppressed", "plane-2"]
KIND = common.REQUEST_KIND_CERTIFICATE_REQUEST
REGISTER_KINDS = {
    common.REGISTER_KIND_CURRENT: "current",
    common.REGISTER_KIND_REMOVED: "removed",
    common.REGISTER_KIND_PRE_REVISION: "pre_revision",
}
DEADLINE_S = 15
RECEIPT_TYPE = b"application/vnd.koseki.consent-receipt.v1+json"


def request_id():
    """A UUIDv7: 48 bits of time in milliseconds, the rest random but for version and variant."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 7 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=number))


class Card:
    """A virtual My Number Card: the user-authentication certificate and its key, as PEM files."""

    def __init__(self, certificate_file, key_file):
        self.certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
        self.key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)

    def certificate_der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def sign(self, text):
        return self.key.sign(text, padding.PKCS1v15(), hashes.SHA256())


def verified(receipt, keys):
    """What a consent receipt says (docs/consent-receipt.md); raises an exception when none of the keys has signed it."""
    envelope = json.loads(receipt)
    [signature] = envelope["signatures"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    signed = b"DSSEv1 %d %s %d %s" % (len(RECEIPT_TYPE), RECEIPT_TYPE, len(payload), payload)
    keys[signature["keyid"]].verify(base64.b64decode(signature["sig"], validate=True), signed)
    return json.loads(payload)


def login(stub, card):
    """The session's token."""
    challenge = stub.BeginLogin(
        portal.BeginLoginRequest(request_id=request_id(), web_origin="https://portal.example"), timeout=DEADLINE_S
    )
    session = stub.CompleteLogin(
        portal.CompleteLoginRequest(
            request_id=request_id(),
            challenge_id=challenge.challenge_id,
            certificate=card.certificate_der(),
            signature=card.sign(challenge.text),
        ),
        timeout=DEADLINE_S,
    )
    return session.session_token


def consent(stub, session_token, keys):
    """Consents for one answer; what the receipt says."""
    texts = stub.ListConsentTexts(portal.ListConsentTextsRequest(request_id=request_id()), timeout=DEADLINE_S).texts
    text = next(text for text in texts if text.kind == KIND and text.language == "ja")
    granted = stub.GrantConsent(
        portal.GrantConsentRequest(
            request_id=request_id(),
            session_token=session_token,
            kind=KIND,
            text_sha256=text.text_sha256,
            one_time=True,
            capacity=portal.CAPACITY_SELF,
        ),
        timeout=DEADLINE_S,
    )
    return verified(granted.receipt, keys)


def ask(stub, session_token, asked_id):
    """The provided registers."""
    answer = stub.RequestCopyInfo(
        portal.RequestCopyInfoRequest(
            request_id=asked_id, session_token=session_token, kind=KIND, capacity=portal.CAPACITY_SELF
        ),
        timeout=DEADLINE_S,
    )
    return [
        {
            "register_kind": REGISTER_KINDS[register.register_kind],
            "registered_domicile": register.registered_domicile,
            "first_entered_person": register.first_entered_person,
            "municipality_code": register.municipality_code,
            "copy_revision": register.copy_revision,
        }
        for register in answer.info.registers
    ]


def record_of(stub, session_token, asked_id, log_keys):
    """The requester's own record of a request, once it is proven to be in the log; that takes a second or two."""
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        page = stub.ListProvisionRecords(
            portal.ListProvisionRecordsRequest(request_id=request_id(), session_token=session_token, page_size=10),
            timeout=DEADLINE_S,
        )
        for record in page.records:
            if record.request_id == asked_id and record_proof.is_proven(record.proof, page.checkpoints, log_keys):
                # What is proven is the log's entry: the record has to say what that says.
                entry = evidence.Public.FromString(record.proof.public_part).provision
                if (entry.request_id, entry.reason, list(entry.items)) != (asked_id, record.reason, list(record.items)):
                    raise ValueError("the record says something else than the log")
                return record
        time.sleep(0.2)
    raise TimeoutError("the request is not in the requester's own records, or not proven")


def play(stub, person, data, keys, log_keys):
    """Whether one person's request came out as expected; prints what came."""
    session_token = login(stub, Card(data / person["card_certificate_file"], data / person["card_key_file"]))
    receipt = consent(stub, session_token, keys)
    print(f"{person['name']}: consent to {receipt['pii_processing']['purposes'][0]['purpose']}, with a good receipt")
    asked_id = request_id()
    as_expected = came_as_expected(stub, person, session_token, asked_id)
    record = record_of(stub, session_token, asked_id, log_keys)
    outcome = portal.ProvisionOutcome.Name(record.outcome).removeprefix("PROVISION_OUTCOME_")
    print(f"{person['name']}: own record: {outcome} through {record.frontend}, in the countersigned log")
    return as_expected and outcome == person["expected"]["outcome"].upper()


def came_as_expected(stub, person, session_token, asked_id):
    """Whether the answer is what scenarios.json expects; prints it."""
    expected = person["expected"]
    try:
        registers = ask(stub, session_token, asked_id)
    except grpc.RpcError as error:
        reason, japanese = wire.refusal(error)
        if not reason:
            print(f"{person['name']}: no answer: {error.code().name}: {error.details()}")
            return False
        print(f"{person['name']}: {error.code().name} {reason}: {japanese}")
        return reason == expected["outcome"].upper()
    for register in registers:
        print(f"{person['name']}: 本籍 {register['registered_domicile']}")
        print(f"{person['name']}: 筆頭に記載した者の氏名 {register['first_entered_person']}")
    wanted = [register for register in expected.get("registers", []) if register["register_kind"] == "current"]
    return expected["outcome"] == "provided" and registers == wanted


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--gateway", required=True, help="host:port of the gateway's portal listener")
    arguments.add_argument("--dir", required=True, type=pathlib.Path, help="directory of the deployment")
    options = arguments.parse_args()
    # Japanese is printed, whatever the terminal's locale says.
    sys.stdout.reconfigure(encoding="utf-8")

    frontend = options.dir / "clients" / "portal-frontend"
    credentials = wire.credentials(frontend / "demo.pem", frontend / "demo-key.pem", frontend / "ca.pem")
    data = options.dir / "data"
    published = (frontend / "consent-receipt-keys").glob("*.pem")
    keys = {path.stem: serialization.load_pem_public_key(path.read_bytes()) for path in published}
    log_keys = record_proof.read_keys((frontend / "log-keys.txt").read_text(encoding="utf-8"))
    persons = {person["name"]: person for person in json.loads((data / "scenarios.json").read_text(encoding="utf-8"))}
    passed = True
    with grpc.secure_channel(options.gateway, credentials) as channel:
        stub = services.PortalStub(channel)
        for name in PERSONS:
            if play(stub, persons[name], data, keys, log_keys):
                print(f"{name}: as expected")
            else:
                print(f"{name}: NOT as expected: {persons[name]['expected']['outcome']}")
                passed = False
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
