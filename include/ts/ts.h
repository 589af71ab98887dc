/** @file

  The TLS session cache and ticket-key functions of Apache Traffic Server.

  TS_SSL_SESSION_API chooses the declarations:
    8   those of the manual page and of ATS 7.1 to 8.1 (the default)
    9   those of ATS 9: TSSslSessionInsert also takes the connection, which is never
        read, and TSSslTicketKeyUpdate returns a TSReturnCode
    10  those of ATS 10 and 11: as for 9, with C++ linkage; for C++ only

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
 * The result of a function.
 */
typedef enum TSReturnCode {
  /**
   * It failed and changed nothing.
   */
  TS_ERROR = -1,
  /**
   * It succeeded.
   */
  TS_SUCCESS = 0,
} TSReturnCode;

/**
 * The longest session ID, in bytes.
 */
#define TS_SSL_MAX_SSL_SESSION_ID_LENGTH 32

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
   * It was removed, by a failed connection for example.
   */
  TS_EVENT_SSL_SESSION_REMOVE = 2002,
} TSEvent;

/**
 * A continuation: a pointer that only its owner uses.
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
 * A function that is called for events. The event decides what edata points to; the result is
 * ignored.
 */
typedef int (*TSEventFunc)(TSCont contp, enum TSEvent event, void *edata);

/**
 * A TLS session ID. It is valid if len is 1 to 32; bytes past len are never read.
 */
typedef struct TSSslSessionID {
  /**
   * The length in bytes.
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
 * Gets a session from the cache.
 *
 * sessionid is the ID that the session was stored under. If
 * proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1, a session is not found
 * while its part of the cache is locked. OpenSSL's error queue is unchanged.
 *
 * Returns:
 *   The session. The caller owns it, can change it and must free it with SSL_SESSION_free; the
 *   cached session stays as it is.
 *
 * Errors:
 *   NULL if there is no session under this ID, the session has expired, the ID is not valid (an
 *   error is logged), the cache is off, or there is no memory.
 *
 * Threads:
 *   Any thread can call it at any time.
 *
 * Source:
 *   TSSslSession(3ts) of Apache Traffic Server.
 */
TSSslSession TSSslSessionGet(const TSSslSessionID *sessionid);

/**
 * Gets a session from the cache as DER bytes.
 *
 * sessionid is the ID that the session was stored under. On entry *len_ptr is the space in
 * buffer, in bytes; on return it is the number of bytes stored. A session that does not fit is
 * truncated. To ask for the size, pass NULL as buffer or a space of 0 or less: nothing is stored
 * then, and *len_ptr becomes 0.
 *
 * The bytes contain the session's master secret. Another process reads them with
 * d2i_SSL_SESSION or TSSslSessionInsertBuffer. While the session's part of the cache is locked,
 * the function does what TSSslSessionGet does.
 *
 * Returns:
 *   The size of the whole session in bytes. If it is greater than *len_ptr, the session was
 *   truncated.
 *
 * Errors:
 *   0, with *len_ptr 0, if there is no session under this ID, the session has expired, the ID is
 *   not valid (an error is logged), the cache is off, or there is no memory. 0 also if len_ptr
 *   is NULL (an error is logged).
 *
 * Threads:
 *   Any thread can call it at any time.
 *
 * Source:
 *   TSSslSession(3ts) of Apache Traffic Server.
 */
int TSSslSessionGetBuffer(const TSSslSessionID *sessionid, char *buffer, int *len_ptr);

/**
 * Inserts a session into the cache.
 *
 * sessionid is the key, whatever ID addSession itself carries. If there is an entry under it,
 * that entry is removed first. No hook is called. OpenSSL's error queue is unchanged.
 *
 * Returns:
 *   TS_SUCCESS if the session is stored, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR in the cases below. What was cached stays cached, except that a lack of memory can come
 *   after sessions were evicted to make room.
 *
 *   The following are logged: the ID is not valid; addSession is NULL, belongs to another OpenSSL
 *   than the library's, or cannot be encoded; it is larger than
 *   tssession.session_cache.max_session_bytes (16384) or than the whole cache is allowed to be;
 *   there is no memory; the process is ending.
 *
 *   The following are logged as debug lines only: the session has expired (at the latest a day
 *   after it was made, in TLS 1.3 a week); the cache is off; its part of the cache is locked and
 *   proxy.config.ssl.session_cache.skip_cache_on_bucket_contention is 1.
 *
 * Threads:
 *   Any thread can call it at any time. No other thread must change addSession during the call. The
 *   ID and the session are copied: the caller still owns both, and the reference count does not
 *   change.
 *
 * Source:
 *   TSSslSession(3ts) of Apache Traffic Server; RFC 5246, F.1.4, and RFC 8446, 4.6.1, for the
 *   lifetimes.
 */
TSReturnCode TSSslSessionInsert(const TSSslSessionID *sessionid, TSSslSession addSession);

/**
 * Removes a session from the cache.
 *
 * sessionid is the ID that the session was stored under. No hook is called.
 *
 * Returns:
 *   TS_SUCCESS if no session is under this ID when the call returns, whether there was one before
 *   or not; otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if the ID is not valid (an error is logged) or the cache is off.
 *
 * Threads:
 *   Any thread can call it at any time. While the session's part of the cache is locked, the
 *   call waits, whatever the settings say.
 *
 * Source:
 *   TSSslSession(3ts) of Apache Traffic Server.
 */
TSReturnCode TSSslSessionRemove(const TSSslSessionID *sessionid);

/**
 * Replaces the session-ticket keys of all attached contexts.
 *
 * ticketData is a sequence of ticketDataLength / 48 keys. Each is 16 bytes name, 16 bytes
 * HMAC-SHA256 secret and 16 bytes AES-128-CBC key. The first key encrypts tickets, and every
 * key decrypts them. A ticket under any key but the first is renewed. A repeated key counts once.
 *
 * Bytes after the last whole key are ignored, and a warning is logged. A later key whose secrets
 * are all zero (an empty slot) is left out; one warning is logged for all of them.
 *
 * Returns:
 *   From TS_SSL_SESSION_API 9 on, TS_SUCCESS if the new keys are active, otherwise TS_ERROR. With
 *   TS_SSL_SESSION_API 8, nothing.
 *
 * Errors:
 *   If there is not one whole key, the secrets of the first key are all zero, two keys have the
 *   same name and different secrets, or there is no memory, the old keys stay active and an error
 *   is logged.
 *
 * Threads:
 *   Any thread can call it at any time. The data is copied.
 *
 * Source:
 *   TSSslSession(3ts) of Apache Traffic Server.
 */
void TSSslTicketKeyUpdate(char *ticketData, int ticketDataLength);

#else /* 9 and 10: the functions are described above */

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
 * The function that a plugin defines and that its host calls after loading the plugin. argv[0] is
 * the plugin, the others are its arguments. The function has C linkage at every level, as in ATS:
 * plugins rely on this declaration for that.
 */
extern void TSPluginInit(int argc, const char *argv[]);

#ifdef __cplusplus
}
#endif

#endif /* TSSESSION_TS_H */
