#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints sealed.txt: a sealed message, made as docs/design/farm.md describes, by another implementation.

Needs the package `cryptography`. A test in src/seal/mod.rs compares its own message with these bytes.
"""

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET = bytes(range(48))
FARM = b"edge.example"
SENDER = bytes(range(0xA0, 0xB0))
COUNTER = 0x0102030405060708
TIME_MS = 1_800_000_000_123
KIND = 1
ID = bytes(range(0x40, 0x60))
DER = b"thirty bytes that are not DER."


def derive(info, length, salt=b""):
    return HKDF(hashes.SHA256(), length, salt, info).derive(SECRET)


def main():
    name = derive(b"tssession-farm 2 name", 4)
    keyed = hmac.HMAC(derive(b"tssession-farm 2 id" + FARM, 32), hashes.SHA256())
    keyed.update(ID)
    subject = keyed.finalize()
    header = bytes([2, KIND]) + name + SENDER + COUNTER.to_bytes(8, "big") + TIME_MS.to_bytes(8, "big") + subject
    assert len(header) == 70
    plain = bytes([len(ID)]) + ID + DER
    key = derive(b"tssession-farm 2 seal" + FARM, 64, SENDER)
    sealed = AESSIV(key).encrypt(plain, [header, FARM])
    tag, body = sealed[:16], sealed[16:]
    print((header + body + tag).hex())


main()
