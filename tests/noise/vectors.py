#!/usr/bin/python3
"""Writes vectors.txt beside itself. Run by hand: vectors.py FOLDER, where FOLDER holds

noise_cacophony.json  from haskell-cryptography/cacophony, vectors/cacophony.txt (Unlicense)
noise_snow.json       from mcginty/snow, tests/vectors/snow.txt (MIT or Apache-2.0; here: MIT)
LICENSE-snow-MIT.txt  its licence, which goes along

Needs Python 3 with the package cryptography. Of the two files all of suite 25519_ChaChaPoly_BLAKE2s
go in; the lines after "golden" are computed here: what dlshard adds to Noise, by a second
implementation over hashlib and OpenSSL.

A line is a word and a value in hex ("-": empty). "noise NAME" begins a vector; psk, secret (i: the
initiator's, r: the responder's) and so on; "message PAYLOAD CIPHERTEXT" are in order, handshake
first. "golden NAME" gives one value.
"""
import hashlib
import json
import os
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

SUITE = "_25519_ChaChaPoly_BLAKE2s"
KEYS = [("init_prologue", "prologue"), ("init_static", "i_secret"), ("init_ephemeral", "i_ephemeral"),
        ("init_remote_static", "i_remote"), ("resp_static", "r_secret"),
        ("resp_ephemeral", "r_ephemeral"), ("resp_remote_static", "r_remote")]


def blake(*parts, key=b"", size=32):
    return hashlib.blake2s(b"".join(parts), key=key, digest_size=size).digest()


def noise(out, folder, name):
    with open(os.path.join(folder, name)) as f:
        vectors = json.load(f)["vectors"]
    for v in vectors:
        if not v["protocol_name"].endswith(SUITE):
            continue
        assert v["init_prologue"] == v["resp_prologue"]
        assert v.get("init_psks") == v.get("resp_psks")
        out.append("noise " + v["protocol_name"][len("Noise_"):-len(SUITE)])
        for psk in v.get("init_psks", []):
            out.append("psk " + psk)
        for key, word in KEYS:
            if v.get(key):
                out.append(word + " " + v[key])
        if v.get("handshake_hash"):
            out.append("hash " + v["handshake_hash"])
        for m in v["messages"]:
            out.append("message %s %s" % (m["payload"] or "-", m["ciphertext"]))


def golden(out):
    def put(name, value):
        out.append("golden %s %s" % (name, value.hex()))

    psk, responder, packet = bytes(range(32)), bytes(range(64, 96)), bytes(range(100))
    put("mac1", blake(packet, key=blake(b"dls-mac1", psk, responder), size=16))
    put("mac1_unknown", blake(packet, key=blake(b"dls-mac1", psk), size=16))
    secret, address = bytes(range(32, 64)), b"127.0.0.1:7000"
    cookie = blake(address, key=secret, size=16)
    put("cookie", cookie)
    put("cookie_next", blake(address, key=blake(b"dls-cookie-next", key=secret), size=16))
    put("mac2", blake(packet, key=cookie, size=16))
    nonce, mac1 = bytes(range(200, 212)), bytes(range(16))
    put("cookie_sealed",
        nonce + ChaCha20Poly1305(blake(b"dls-cookie", psk, responder)).encrypt(nonce, cookie, mac1))
    put("device_psk", blake(b"dls-device", struct.pack("<II", 7, 258), key=psk))

    key = psk
    for i in range(4): # the keys of a direction, one after the other
        put("rekey%d" % i, key)
        key = ChaCha20Poly1305(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]

    def signed(prefix, text):
        root = Ed25519PrivateKey.from_private_bytes(bytes(range(128, 160)))
        return text + root.sign(prefix + blake(text))

    def name(text):
        return text.encode().ljust(16, b"\0")

    cert = struct.pack("<BBHI32sIII16s", 1, 0x17, 0, 258, bytes(range(1, 33)), 7, 3, 0xFFFFFFFF,
                       name("tablet"))
    put("cert", signed(b"dlshard/cert/v1", cert))
    devices = [(1, 0x37, 0, bytes(range(2, 34)), "hub"),
               (258, 0x07, 1, bytes(range(1, 33)), "tablet"),
               (0xFFFFFFFF, 0x03, 2, bytes(32), "fifteen letters")]
    roster = struct.pack("<BBHII", 1, 0, len(devices), 7, 41)
    for number, role, flags, public, text in devices:
        roster += struct.pack("<IBB32s16s", number, role, flags, public, name(text))
    put("roster", signed(b"dlshard/roster/v1", roster))

    def tree(chunks): # RFC 9162, 2.1.1
        if len(chunks) == 1:
            return blake(b"\0", chunks[0])
        left = 1
        while 2 * left < len(chunks):
            left *= 2
        return blake(b"\1", tree(chunks[:left]), tree(chunks[left:]))

    for count in range(1, 10): # a model of that many chunks, the last of 100 bytes
        model = bytes((7 * i + (i >> 8)) & 255 for i in range(1024 * count - 924))
        root = tree([model[i:i + 1024] for i in range(0, len(model), 1024)])
        put("merkle%d" % count, root)
    put("manifest", signed(b"dlshard/manifest/v1",
                           struct.pack("<BBHI16sQQ32s32s", 1, 10, 3, 7, bytes(range(16)), 1 << 40,
                                       len(model), root, bytes(range(32)))))


def main():
    out = ["# Made by vectors.py from cacophony (Unlicense) and snow, whose licence is:", "#"]
    with open(os.path.join(sys.argv[1], "LICENSE-snow-MIT.txt")) as f:
        out += [("# " + line).rstrip() for line in f.read().splitlines()]
    for name in ("noise_cacophony.json", "noise_snow.json"):
        noise(out, sys.argv[1], name)
    golden(out)
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.txt"), "w") as f:
        f.write("\n".join(out) + "\n")


main()
