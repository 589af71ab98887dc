#!/usr/bin/env python3
"""Uses the library from Python with ctypes: stores a session and gets it back.

    session_cache.py SESSION.pem

SESSION.pem is what "openssl s_client -sess_out" writes. Fails if other bytes come back.
libtssession.so.0 must be in LD_LIBRARY_PATH.

SPDX-License-Identifier: Apache-2.0
"""

import base64
import ctypes
import ssl
import sys


class SessionID(ctypes.Structure):
    _fields_ = [("len", ctypes.c_size_t), ("bytes", ctypes.c_char * 32)]


# The library for the OpenSSL of this Python.
openssl = {3: "", 4: "-openssl4"}[ssl.OPENSSL_VERSION_INFO[0]]
cache = ctypes.CDLL("libtssession.so.0" + openssl)
der = base64.b64decode(open(sys.argv[1]).read().split("-----")[2])
key = ctypes.byref(SessionID(6, b"python"))
size, entries = ctypes.c_int(0), ctypes.c_int64()

if cache.TSSslSessionInsertBuffer(key, der, len(der)) != 0:
    sys.exit("the session was not stored")
buffer = ctypes.create_string_buffer(cache.TSSslSessionGetBuffer(key, None, ctypes.byref(size)))
size.value = len(buffer)
if cache.TSSslSessionGetBuffer(key, buffer, ctypes.byref(size)) != size.value or buffer.raw != der:
    sys.exit("other bytes came back")
cache.TSSslSessionCacheStatGet(b"tssession.session_cache.entries", ctypes.byref(entries))
print(f"{entries.value} session, {size.value} bytes")
