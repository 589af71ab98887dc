/** @file

  The TLS session cache and ticket-key functions of Apache Traffic Server.

  TS_SSL_SESSION_API chooses the declarations:
    8   those of the manual page and of ATS 7.1 to 8.1 (this is the default)
    9   those of ATS 9: TSSslSessionInsert takes the connection too, which is never
        read, and TSSslTicketKeyUpdate tells whether it did its work
    10  those of ATS 10 and 11: the same with C++ linkage, for C++ only

  Generated from src/ffi by build.rs; do not edit.
  SPDX-License-Identifier: Apache-2.0
 */

#ifndef TSSESSION_TS_H
#define TSSESSION_TS_H

#include <stddef.h>

/* The version of this header; that of the library: TSSslSessionCacheVersion(). */
#define TSSESSION_VERSION "0.1.0"

#ifndef TS_SSL_SESSION_API
#define TS_SSL_SESSION_API 8
#endif

#if TS_SSL_SESSION_API < 8 || TS_SSL_SESSION_API > 10
#error "TS_SSL_SESSION_API must be 8, 9 or 10"
#endif

#if TS_SSL_SESSION_API == 10 && !defined(__cplusplus)
#error "TS_SSL_SESSION_API 10 has C++ linkage: use 9 in C"
#endif

/**
 * The longest session ID, in bytes.
 */
#define TS_SSL_MAX_SSL_SESSION_ID_LENGTH 32

/**
 * Whether a function did its work.
 */
typedef enum TSReturnCode {
  /**
   * It did not, and changed nothing.
   */
  TS_ERROR = -1,
  /**
   * It did.
   */
  TS_SUCCESS = 0,
} TSReturnCode;

/**
 * What happened to a session.
 */
typedef enum TSEvent {
  /**
   * A handshake fetched it from the cache.
   */
  TS_EVENT_SSL_SESSION_GET = 2000,
  /**
   * A handshake stored it.
   */
  TS_EVENT_SSL_SESSION_NEW = 2001,
  /**
   * A failed connection removed it.
   */
  TS_EVENT_SSL_SESSION_REMOVE = 2002,
} TSEvent;

/**
 * A continuation: whatever its owner says it is.
 */
typedef struct tsapi_cont tsapi_cont;

/**
 * An SSL_CTX.
 */
typedef struct tsapi_ssl_context tsapi_ssl_context;

/**
 * An SSL.
 */
typedef struct tsapi_ssl_obj tsapi_ssl_obj;

/**
 * An SSL_SESSION.
 */
typedef struct tsapi_ssl_session tsapi_ssl_session;

/**
 * A TLS session; casts to SSL_SESSION *.
 */
typedef struct tsapi_ssl_session *TSSslSession;

/**
 * A TLS connection; casts to SSL *.
 */
typedef struct tsapi_ssl_obj *TSSslConnection;

/**
 * A TLS context; casts to SSL_CTX *.
 */
typedef struct tsapi_ssl_context *TSSslContext;

/**
 * The first argument of a TSEventFunc.
 */
typedef struct tsapi_cont *TSCont;

/**
 * A function that is told of events. What edata points to depends on the
 * event; the result is not used.
 */
typedef int (*TSEventFunc)(TSCont contp, enum TSEvent event, void *edata);

/**
 * A TLS session ID. It is valid when len is 1 to 32; bytes past len are
 * never read.
 */
typedef struct TSSslSessionID {
  /**
   * The number of bytes that count.
   */
  size_t len;
  /**
   * The ID.
   */
  char bytes[TS_SSL_MAX_SSL_SESSION_ID_LENGTH];
} TSSslSessionID;

#if defined(__cplusplus) && TS_SSL_SESSION_API < 10
extern "C" {
#endif

#if TS_SSL_SESSION_API == 8

/**
 * Gets a session out of the cache.
 *
 * The result is a session of the caller's own, who may change it and ends it
 * with SSL_SESSION_free; the cache keeps the session as it is. The result is
 * NULL when there is no session under this ID, when it has expired, when the
 * ID is not valid (an error is logged), or when the cache is off.
 *
 * Any thread may call it at any time. OpenSSL's error queue stays as it is.
 * Where proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1, it
 * also finds nothing when its part of the cache is locked; so does
 * TSSslSessionGetBuffer.
 */
TSSslSession TSSslSessionGet(const TSSslSessionID *sessionid);

/**
 * Gets a session out of the cache as DER bytes, which another process can read
 * with d2i_SSL_SESSION and insert.
 *
 * On entry *len_ptr is the space in buffer, in bytes. The result is the number
 * of bytes that the session really needs, and on return *len_ptr is the number
 * of bytes stored: the first ones of the session, as many as fit, and not a
 * byte more. So the session was cut off when the result is greater than
 * *len_ptr. With a NULL buffer, or a space of 0 or less, nothing is stored and
 * *len_ptr becomes 0: the way to ask for the size.
 *
 * The result is 0, and *len_ptr 0, when there is no session under this ID, when
 * it has expired, when the ID is not valid (an error is logged), or when the
 * cache is off. It is 0 too when len_ptr is NULL (an error is logged).
 *
 * The bytes hold the session's master secret. Any thread may call it at any
 * time.
 */
int TSSslSessionGetBuffer(const TSSslSessionID *sessionid, char *buffer, int *len_ptr);

/**
 * Inserts a session into the cache under an ID, whatever ID the session itself
 * carries. If the ID has an entry, that is removed first.
 *
 * The ID and the session are copied: the caller goes on owning both, and the
 * session's reference count stays as it is.
 *
 * The result is TS_SUCCESS when the session is stored. It is TS_ERROR, and all
 * that was cached still is, when the ID is not valid, the session is NULL or
 * cannot be encoded, is larger than
 * tssession.session_cache.max_session_bytes (16384) or than the whole cache may
 * be (each of these is logged), when it has expired (at the latest a day after it was
 * made, in TLS 1.3 a week), when the cache is off, or
 * when its part of the cache is locked and
 * proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1.
 *
 * Any thread may call it at any time, as long as no other changes the session
 * meanwhile. No hook is called. OpenSSL's error queue stays as it is.
 */
TSReturnCode TSSslSessionInsert(const TSSslSessionID *sessionid, TSSslSession addSession);

/**
 * Removes a session from the cache.
 *
 * The result is TS_SUCCESS for a valid ID, whether there was a session or not:
 * when the call returns, there is none. It is TS_ERROR when the ID is not valid
 * (an error is logged) or the cache is off.
 *
 * Any thread may call it at any time; it waits when its part of the cache is
 * locked, whatever the settings say. No hook is called.
 */
TSReturnCode TSSslSessionRemove(const TSSslSessionID *sessionid);

/**
 * Puts a new set of session-ticket keys in force, for every attached context and
 * from now on.
 *
 * ticketData is a run of ticketDataLength / 48 keys, each of 16 bytes name, 16
 * bytes HMAC-SHA256 secret and 16 bytes AES-128-CBC key. The first key encrypts
 * tickets; every key decrypts them, and a ticket under another key than the
 * first is renewed. The same key twice counts once. The data is copied.
 *
 * The keys in force stay, and an error is logged, when there is not one whole
 * key, when the first key's secrets are all zero, or when two keys have the
 * same name but different secrets. Bytes behind the last whole key are not
 * used, and a later key with secrets of nothing but zeros (an empty slot) is
 * left out: each earns a warning.
 *
 * Any thread may call it at any time. From TS_SSL_SESSION_API 9 on the result
 * is TS_SUCCESS when the keys are in force, else TS_ERROR.
 */
void TSSslTicketKeyUpdate(char *ticketData, int ticketDataLength);

#else /* 9 and 10: what the functions do is described above */

TSSslSession TSSslSessionGet(const TSSslSessionID *sessionid);

int TSSslSessionGetBuffer(const TSSslSessionID *sessionid, char *buffer, int *len_ptr);

TSReturnCode TSSslSessionInsert(const TSSslSessionID *sessionid, TSSslSession addSession, TSSslConnection ssl_conn);

TSReturnCode TSSslSessionRemove(const TSSslSessionID *sessionid);

TSReturnCode TSSslTicketKeyUpdate(char *ticketData, int ticketDataLength);

#endif

#if defined(__cplusplus) && TS_SSL_SESSION_API < 10
}
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What a plugin defines for its host to call after loading it: argv[0] is the plugin,
 * the others are its arguments. It has C linkage at every level, as in ATS, whose
 * plugins rely on this declaration for that.
 */
extern void TSPluginInit(int argc, const char *argv[]);

#ifdef __cplusplus
}
#endif

#endif /* TSSESSION_TS_H */
