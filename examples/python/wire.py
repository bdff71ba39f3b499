"""What the examples have in common: where the protos are, mutual TLS, and reading a refusal."""

import pathlib
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

# grpc looks for protos on the module path and makes the classes from them.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))


def credentials(certificate, key, ca):
    """Mutual TLS with these PEM files."""
    return grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(), private_key=key.read_bytes(), certificate_chain=certificate.read_bytes()
    )


def refusal(error):
    """The stable reason of a refused call and what a Japanese reader is told."""
    reason, japanese = "", ""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info, message = error_details_pb2.ErrorInfo(), error_details_pb2.LocalizedMessage()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(message):
            japanese = message.message
    return reason, japanese
