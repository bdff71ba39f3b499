#!/usr/bin/env python3
"""Verifies evidence, by RFC 6962 section 2.1 and by C2SP's signed-note, tlog-checkpoint and tlog-cosignature as they are written.

It shares nothing with what makes the evidence but the message definitions in proto/. Reads claims, one JSON object a line, and says
of each in the same order `true` or `false`: whether it holds.

    {"claim": "checkpoint", "note": HEX, "origin": NAME, "witness": NAME}: signed by the log, and countersigned when a witness is named
    {"claim": "inclusion", "note": …, "origin": …, "witness": …, "index": N, "leaf": HEX, "path": [HEX, …]}
    {"claim": "consistency", "note": …, "origin": …, "witness": …, "older": HEX, "older_witness": NAME, "path": [HEX, …]}
    {"claim": "bundles", "note": …, "origin": …, "witness": …, "bodies": [HEX, …], "hashes": [HEX, …]}; all of a log's bundles and
        what is stored beside each
    {"claim": "export", "file": HEX, "origin": …, "witness": …}; an exported log
"""

import base64
import hashlib
import json
import pathlib
import sys

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "proto"))
evidence = grpc.protos("koseki/evidence/v1/evidence.proto")


class Broken(Exception):
    """A claim does not hold."""


def require(holds, what):
    if not holds:
        raise Broken(what)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text):
    """Only the one canonical spelling counts."""
    data = base64.b64decode(text, validate=True)
    require(base64.b64encode(data).decode() == text, "not canonical base64")
    return data


# signed-note: verifier keys and notes.


def verifier_keys(text):
    """(name, id) to (type, public key)."""
    keys = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, key_id, encoded = line.split("+", 2)
        encoded = unbase64(encoded)
        require(sha256(name.encode(), b"\n", encoded)[:4].hex() == key_id, "a key id that is not the key's")
        require(len(encoded) == 33 and encoded[0] in (1, 4), "a key of another type")
        keys[name, encoded[0], bytes.fromhex(key_id)] = Ed25519PublicKey.from_public_bytes(encoded[1:])
    return keys


def open_note(note):
    """Text and signature lines (name, id, signature)."""
    decoded = note.decode("utf-8")
    require(all(c == "\n" or ord(c) >= 0x20 for c in decoded), "a control character")
    text, separator, rest = decoded.rpartition("\n\n")
    require(separator and rest.endswith("\n"), "no signatures")
    lines = []
    for line in rest[:-1].split("\n"):
        require(line.startswith("\u2014 "), "not a signature line")
        name, space, signature = line[2:].partition(" ")
        require(space and name and "+" not in name, "not a signature line")
        signature = unbase64(signature)
        require(len(signature) > 4, "a signature without one")
        lines.append((name, signature[:4], signature[4:]))
    return text + "\n", lines


def signed(text, lines, name, keys):
    """A key of type 1 of this name has signed the text, and none that is known has done so wrongly."""
    good = False
    for signer, key_id, signature in lines:
        key = keys.get((signer, 1, key_id))
        if signer == name and key:
            key.verify(signature, text.encode())
            good = True
    require(good, "not signed by the log")


def cosigned(text, lines, name, keys):
    """tlog-cosignature: a time of 8 bytes, then a signature over `cosignature/v1`, the time and the whole text."""
    good = False
    for signer, key_id, signature in lines:
        key = keys.get((signer, 4, key_id))
        if signer == name and key:
            require(len(signature) == 72, "a cosignature of another length")
            time = int.from_bytes(signature[:8], "big")
            require(time < 1 << 63, "a time that is none")
            key.verify(signature[8:], b"cosignature/v1\ntime %d\n" % time + text.encode())
            good = True
    require(good, "not countersigned by the witness")


def checkpoint(note, origin, witness, keys):
    """Size and root of a checkpoint that counts (tlog-checkpoint)."""
    text, lines = open_note(note)
    signed(text, lines, origin, keys)
    if witness:
        cosigned(text, lines, witness, keys)
    first, size, root, *extensions = text[:-1].split("\n")
    require(first == origin and not extensions, "another log's checkpoint")
    require(size.isascii() and size.isdigit() and str(int(size)) == size, "not a size")
    root = unbase64(root)
    require(len(root) == 32, "not a root")
    return int(size), root


# RFC 6962 section 2.1. MTH, PATH and PROOF are defined there by recursion over k, the largest power of two below n.


def leaf_hash(leaf):
    return sha256(b"\x00", leaf)


def node_hash(left, right):
    return sha256(b"\x01", left, right)


def split(n):
    return 1 << (n - 1).bit_length() - 1


def tree_hash(hashes):
    if not hashes:
        return sha256()
    if len(hashes) == 1:
        return hashes[0]
    k = split(len(hashes))
    return node_hash(tree_hash(hashes[:k]), tree_hash(hashes[k:]))


def root_by_inclusion(m, n, leaf, path):
    """The root for PATH(m, D[n]): the path's last hash is the sibling nearest to the root."""
    require(0 <= m < n, "not an index of the tree")
    if n == 1:
        require(not path, "a path that is too long")
        return leaf
    require(path, "a path that is too short")
    k = split(n)
    if m < k:
        return node_hash(root_by_inclusion(m, k, leaf, path[:-1]), path[-1])
    return node_hash(path[-1], root_by_inclusion(m - k, n - k, leaf, path[:-1]))


def roots_by_consistency(m, n, known, is_whole, path):
    """Old and new root of SUBPROOF(m, D[n], b): `known` is the old root, for the case that b is true to the end."""
    if m == n:
        if is_whole:
            require(not path, "a proof that is too long")
            return known, known
        [only] = path or [None]
        require(only, "a proof that is too short")
        return only, only
    require(path, "a proof that is too short")
    k = split(n)
    if m <= k:
        old, new = roots_by_consistency(m, k, known, is_whole, path[:-1])
        return old, node_hash(new, path[-1])
    old, new = roots_by_consistency(m - k, n - k, known, False, path[:-1])
    return node_hash(path[-1], old), node_hash(path[-1], new)


# The log's entries (docs/audit-log.md).


def leaf_of(entry):
    require(len(entry.salt) == 32, "a salt of another length")
    return entry.public + sha256(entry.salt, entry.restricted)


def bundle_leaves(body, first_index):
    """Leaf hashes of a bundle, whose own numbers fit its entries."""
    bundle = evidence.Bundle.FromString(body)
    require(bundle.first_index == first_index and bundle.entries, "a bundle that is out of its place")
    for entry in bundle.entries:
        public = evidence.Public.FromString(entry.public)
        require((public.epoch, public.at_unix_s) == (bundle.epoch, bundle.at.seconds), "an entry of another bundle")
    return [leaf_hash(leaf_of(entry)) for entry in bundle.entries]


def stored_beside(hashes, first_index, leaves):
    """What is stored beside a bundle: each leaf's hash, then the roots of the subtrees that it is the last leaf of."""
    stored = b""
    for leaf in leaves:
        hashes.append(leaf)
        stored += leaf
        width = 2
        while len(hashes) % width == 0:
            stored += tree_hash(hashes[-width:])
            width *= 2
    return stored


def bundles(claim, keys):
    size, root = checkpoint(bytes.fromhex(claim["note"]), claim["origin"], claim["witness"], keys)
    hashes = []
    for body, beside in zip(claim["bodies"], claim["hashes"], strict=True):
        leaves = bundle_leaves(bytes.fromhex(body), len(hashes))
        require(stored_beside(hashes, len(hashes), leaves) == bytes.fromhex(beside), "other hashes beside a bundle")
    require(size <= len(hashes) and tree_hash(hashes[:size]) == root, "not what the checkpoint says")


def parts(data):
    """Messages with their lengths before them, as varints."""
    while data:
        length, shift = 0, 0
        while True:
            require(data, "a length that is cut off")
            length |= (data[0] & 0x7F) << shift
            more, data, shift = data[0] & 0x80, data[1:], shift + 7
            if not more:
                break
        require(length <= len(data), "a part that is cut off")
        yield evidence.ExportPart.FromString(data[:length])
        data = data[length:]


def export(claim, keys):
    header, *middle, end = parts(bytes.fromhex(claim["file"]))
    require(header.WhichOneof("part") == "header" and end.WhichOneof("part") == "end", "no beginning, or no end")
    header, end = header.header, end.end
    require((header.format, header.origin) == (1, claim["origin"]), "another log")
    require((header.first_bundle, header.first_index) == (0, 0) and not header.frontier, "not from the beginning")
    hashes = []
    for number, part in enumerate(middle):
        require(part.WhichOneof("part") == "bundle" and part.bundle.number == number, "a bundle that is out of its place")
        if part.bundle.body:
            hashes += bundle_leaves(part.bundle.body, len(hashes))
        else:
            packed = part.bundle.leaf_hashes
            hashes += [packed[at : at + 32] for at in range(0, len(packed), 32)]
    require((end.bundles, end.size) == (len(middle), len(hashes)), "another end")
    size, root = checkpoint(end.checkpoint.encode(), claim["origin"], claim["witness"], keys)
    require(size <= len(hashes) and tree_hash(hashes[:size]) == root, "not what the checkpoint says")


def check(claim, keys):
    kind = claim["claim"]
    if kind == "bundles":
        return bundles(claim, keys)
    if kind == "export":
        return export(claim, keys)
    size, root = checkpoint(bytes.fromhex(claim["note"]), claim["origin"], claim["witness"], keys)
    path = [bytes.fromhex(digest) for digest in claim.get("path", [])]
    require(all(len(digest) == 32 for digest in path), "not hashes")
    if kind == "inclusion":
        leaf = leaf_hash(bytes.fromhex(claim["leaf"]))
        require(root_by_inclusion(claim["index"], size, leaf, path) == root, "not in the log")
    elif kind == "consistency":
        old_size, old_root = checkpoint(bytes.fromhex(claim["older"]), claim["origin"], claim["older_witness"], keys)
        require(0 < old_size <= size, "not an older checkpoint")
        require((old_root, root) == roots_by_consistency(old_size, size, old_root, True, path), "not a continuation")
    else:
        require(kind == "checkpoint", "an unknown claim")
    return None


def main():
    keys = verifier_keys(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    for line in sys.stdin:
        claim = json.loads(line)
        try:
            check(claim, keys)
            print("true")
        except (Broken, DecodeError, InvalidSignature, ValueError) as why:
            print("false", type(why).__name__, why)


if __name__ == "__main__":
    main()
