"""Checks that an own record stands in the gateway's log: its way to the root of a checkpoint that the log has signed and the
registry side has countersigned (docs/audit-log.md). RFC 6962, C2SP signed-note and tlog-cosignature; nothing of the services is
needed but the list of public keys.
"""

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519, COSIGNATURE = 1, 4


def read_keys(text):
    """The public keys of a list, by name and id: what each signs and the key."""
    keys = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, key_id, encoded = line.strip().split("+", 2)
            encoded = base64.b64decode(encoded, validate=True)
            keys[name, bytes.fromhex(key_id)] = encoded[0], Ed25519PublicKey.from_public_bytes(encoded[1:])
    return keys


def root_of(note, origin, witness, keys):
    """Size and root that a note says; raises an exception unless the log has signed it and the witness countersigned it."""
    text, signatures = note.rsplit("\n\n", 1)
    text += "\n"
    signed = set()
    for line in signatures.splitlines():
        _, name, encoded = line.split(" ")
        encoded = base64.b64decode(encoded, validate=True)
        algorithm, key = keys.get((name, encoded[:4]), (None, None))
        message, signature = text.encode(), encoded[4:]
        if algorithm == COSIGNATURE:
            time = int.from_bytes(signature[:8], "big")
            message, signature = f"cosignature/v1\ntime {time}\n{text}".encode(), signature[8:]
        if key:
            key.verify(signature, message)
            signed.add((name, algorithm))
    if not {(origin, ED25519), (witness, COSIGNATURE)} <= signed:
        raise InvalidSignature("not signed by the log and countersigned by the witness")
    first, size, root = text.splitlines()
    if first != origin:
        raise ValueError("a checkpoint of another log")
    return int(size), base64.b64decode(root, validate=True)


def node(left, right):
    """The hash above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_by_path(leaf, index, size, path):
    """The root of a tree of this size that has this leaf at this place, by the hashes beside its way."""
    path, digest, last = list(path), hashlib.sha256(b"\x00" + leaf).digest(), size - 1
    while last > 0:
        if index % 2 == 1:
            digest = node(path.pop(0), digest)
        elif index < last:
            digest = node(digest, path.pop(0))
        index, last = index // 2, last // 2
    if path:
        raise ValueError("a proof that is too long")
    return digest


def is_proven(proof, checkpoints, keys):
    """Whether the log is countersigned with the record in it; False while it is newer than the newest countersigned checkpoint.
    Raises an exception when something is wrong."""
    if proof.tree_size == 0:
        return False
    trust_domain, role, _ = proof.origin.split("/")
    if role != "portal-gateway" or proof.index >= proof.tree_size:
        raise ValueError("not a record of a gateway")
    [note] = [note for note in checkpoints if note.startswith(proof.origin + "\n")]
    size, root = root_of(note, proof.origin, f"{trust_domain}/koseki-provider", keys)
    leaf = proof.public_part + proof.commitment
    if size != proof.tree_size or root_by_path(leaf, proof.index, size, proof.inclusion_proof) != root:
        raise ValueError("the record is not in the log")
    return True
