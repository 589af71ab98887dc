/** @file

  What the owner of an SSL_CTX calls to have its sessions and tickets served by
  libtssession. The functions have C linkage whatever <ts/ts.h> declares; that
  may be this library's or ATS's own.

  Generated from src/ffi by build.rs; do not edit.
  SPDX-License-Identifier: Apache-2.0
 */

#ifndef TSSESSION_SSL_SESSION_CACHE_H
#define TSSESSION_SSL_SESSION_CACHE_H

#include <stdint.h>
#include <ts/ts.h>

/* The version of this header; that of the library: TSSslSessionCacheVersion(). */
#define TSSESSION_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A line about what failed.
 */
#define TS_SSL_SESSION_CACHE_LOG_ERROR 1

/**
 * A line about what was done, but not as it was asked for.
 */
#define TS_SSL_SESSION_CACHE_LOG_WARNING 2

/**
 * A line about what goes as it should. Only these name session IDs, in hex.
 */
#define TS_SSL_SESSION_CACHE_LOG_DEBUG 3

/**
 * A function that gets the library's log lines: their level, their tag (as ATS has them,
 * for example "ssl.session_cache.insert") and their text, which has no line break.
 */
typedef void (*TSSslSessionCacheLogFunc)(TSCont contp, int level, const char *tag, const char *line);

/**
 * Attaches an SSL_CTX to the session cache and to the ticket keys: sets its
 * session callbacks, session cache mode, ticket-key callback and the callback for
 * decrypted tickets as the settings say at this moment. Attaching it again applies
 * the settings again; what the host has set in between stays, but where a setting of the library says
 * otherwise. An attached context is a server's: sessions of clients are not
 * cached. A timeout of the context's (SSL_CTX_set_timeout) of more than 7 days
 * becomes 7 days (RFC 8446, 4.6.1).
 *
 * Call it when the context is set up, before connections use it: OpenSSL does
 * not guard a context against changes while it is in use.
 *
 * All attached contexts share the cache and the ticket keys. What keeps their
 * sessions apart is the session ID context, which remains the host's to set
 * (SSL_CTX_set_session_id_context): contexts that ask for client certificates
 * must have one, and contexts whose rules for clients differ must have
 * different ones. Contexts that have the same one nevertheless: a connection that
 * demands a certificate when it looks for the session (SSL_VERIFY_PEER and
 * SSL_VERIFY_FAIL_IF_NO_PEER_CERT) resumes none without, neither by ID nor by
 * ticket. But of two that demand certificates of different authorities, one
 * resumes the other's.
 *
 * OpenSSL does not tell which callback for decrypted tickets a context has. A host
 * with ones of its own (SSL_CTX_set_session_ticket_cb) sets them after it has
 * attached the context: they stay when it is attached again, and it is then for
 * them to refuse a session without the certificate that is demanded.
 *
 * A host that has ticket keys of its own keeps them by setting
 * tssession.session_ticket.mode to 0 (TSSslSessionCacheConfigSet) before it attaches: then
 * the ticket-key callback, the callbacks for session tickets, the number of tickets
 * and SSL_OP_NO_TICKET stay as they are, sessions in tickets are the host's to refuse, and
 * TSSslTicketKeyUpdate changes nothing for this context. A context that is
 * attached again in the other mode changes over; the callbacks that the library had
 * set become NULL.
 *
 * The result is TS_ERROR when ctx is NULL or there is no memory.
 */
TSReturnCode TSSslSessionCacheAttach(TSSslContext ctx);

/**
 * Takes off again what TSSslSessionCacheAttach has set: the context gets back the
 * session callbacks, modes and numbers that it had before, or that the host has
 * set since. Where tickets are the library's (tssession.session_ticket.mode), its ticket-key
 * callback and its callbacks for session tickets become NULL, because OpenSSL does not
 * tell what they were.
 *
 * A context that is not attached stays as it is, and the result is TS_SUCCESS.
 * It is TS_ERROR when ctx is NULL. A context need not be detached before
 * SSL_CTX_free.
 */
TSReturnCode TSSslSessionCacheDetach(TSSslContext ctx);

/**
 * Changes one setting, named as its ATS record is named, for example
 * "proxy.config.ssl.session_cache.size" to "4096". tssession(3) lists them all.
 *
 * A number may end in K, M, G or T. The setting is in force when the call
 * returns; those that shape a context (tickets, modes) when it is attached the
 * next time. A smaller cache keeps as many sessions as fit; one that is
 * switched off forgets all. The number of shards
 * (proxy.config.ssl.session_cache.num_buckets) is settled once the cache is in
 * use.
 *
 * The environment counts more than this call, and this call more than a file
 * (TSSslSessionCacheConfigLoad). Where an environment variable sets the same
 * record, the result is TS_SUCCESS and a warning is logged. The result is
 * TS_ERROR, an error is logged and nothing has changed when there is no such
 * setting, the value is not valid, or an argument is NULL.
 *
 * Any thread may call it at any time.
 */
TSReturnCode TSSslSessionCacheConfigSet(const char *name, const char *value);

/**
 * Puts the settings of a file of ATS records in force: nested maps under "records:" if
 * its name ends in .yaml or .yml (ATS 10 and later), else lines as in
 * records.config (ATS 9 and before). Records that the library does not know are
 * skipped; one that begins with "tssession." earns a warning. Its own, "tssession.session_cache.max_bytes" for example, are written in
 * the same way; in YAML as nested maps at the top level or under "records:".
 *
 * All settings of the file come into force, as by TSSslSessionCacheConfigSet, or
 * none. What the environment or TSSslSessionCacheConfigSet has set stays. A record
 * that a file no longer has keeps its value. Loading the file again after it has
 * changed is how a host reloads; no session that fits is lost by it. Ticket keys are
 * not read: call TSSslTicketKeyFileLoad(NULL) then.
 *
 * The result is TS_ERROR, an error with the file, the line and the record is logged
 * and nothing has changed when path is NULL, the file cannot be read, is not a
 * regular file or larger than 1 MiB, a value is not valid, or the file is not written
 * as its name says. Any thread may call it at any time.
 */
TSReturnCode TSSslSessionCacheConfigLoad(const char *path);

/**
 * Passes the library's log lines to a function of the host: to func(contp, level, tag,
 * line), from now on, those of the given level (TS_SSL_SESSION_CACHE_LOG_ERROR, _WARNING
 * or _DEBUG) and the graver ones. With a NULL func they go to stderr again, errors and
 * warnings only.
 *
 * Where the process exports TSError, as traffic_server does, all lines go to that
 * and to TSWarning and TSDebug, and func is not called; nor is it in a Rust program with
 * a logger of its own, which gets them then. Of errors and warnings of one kind,
 * a burst of 100 and then one a second is passed on, wherever they go.
 *
 * func is called on the thread that has something to log, and waited for; no lock is
 * held, and it may call every function of the library. What it leads to there is
 * logged to stderr. A C++ exception, pthread_exit and the cancellation of the thread must
 * not leave it. A call that another thread is in at this moment goes on when func is
 * replaced.
 *
 * The result is TS_ERROR, nothing changes and an error is logged when level is none
 * of the three. Any thread may call it at any time.
 */
TSReturnCode TSSslSessionCacheLogSet(TSSslSessionCacheLogFunc func, TSCont contp, int level);

/**
 * Reads one counter, named as the ATS metric is named, for example
 * "proxy.process.ssl.ssl_session_cache_hit". tssession(3) lists them all. Of one that
 * is counted by cause or by age, each part can be read by itself, for example
 * "proxy.process.ssl.ssl_session_cache_miss.expired".
 *
 * The result is TS_ERROR, and *value stays as it is, when there is no such
 * counter or an argument is NULL; that is logged. Any thread may call it at any
 * time.
 */
TSReturnCode TSSslSessionCacheStatGet(const char *name, int64_t *value);

/**
 * Writes all counters as text: in the format of Prometheus (version 0.0.4), each under
 * its name with "_" for ".", and the parts of one under a label.
 *
 * The arguments and the result are as in TSSslSessionGetBuffer: on entry *len_ptr is
 * the space in buffer, in bytes; the result is the number of bytes that the text
 * needs, and on return *len_ptr is the number of bytes stored, as many as fit. So the
 * text was cut off when the result is greater than *len_ptr; it may have grown since a
 * call that asked for its size. There is no NUL at its end. With a NULL buffer, or a
 * space of 0 or less, nothing is stored and *len_ptr becomes 0. The result is 0 when
 * len_ptr is NULL (an error is logged).
 *
 * Any thread may call it at any time.
 */
int TSSslSessionCacheStatsText(char *buffer, int *len_ptr);

/**
 * Adds a hook: has func(contp, event, id) called after a handshake through an
 * attached context has stored a session (TS_EVENT_SSL_SESSION_NEW), fetched one
 * (_GET), or after a failed connection has removed one (_REMOVE). id is a
 * TSSslSessionID * that is valid during the call.
 *
 * It is called on the thread of the handshake, which waits for it, and holds no
 * lock: it may call every function of the library. Calls of the library's
 * functions call no hook, so a plugin that inserts what it was told of does not
 * hear of it again. A C++ exception, pthread_exit and the cancellation of the
 * thread must not leave it.
 *
 * Adding the same func and contp again changes nothing. The result is TS_ERROR
 * when func is NULL; that is logged. Any thread may call it at any time.
 */
TSReturnCode TSSslSessionHookAdd(TSEventFunc func, TSCont contp);

/**
 * Removes a hook: ends what TSSslSessionHookAdd began, for the same func and contp.
 *
 * A call that another thread is in at this moment goes on; none begins after
 * this function returned, but one that was about to begin may. Wait for the
 * connections to end before unloading the function. The result is TS_ERROR when
 * there is no such hook; that is logged. Any thread may call it at any time,
 * the function itself included.
 */
TSReturnCode TSSslSessionHookRemove(TSEventFunc func, TSCont contp);

/**
 * Inserts a session into the cache from its DER bytes, as TSSslSessionGetBuffer
 * gives them, here or in another process. The bytes are copied.
 *
 * The result is that of TSSslSessionInsert. It is also TS_ERROR, and logged, when
 * buffer is NULL or its len bytes are not exactly one whole session. Any thread
 * may call it at any time. No hook is called.
 */
TSReturnCode TSSslSessionInsertBuffer(const TSSslSessionID *sessionid, const char *buffer, int len);

/**
 * Puts the ticket keys of a file in force, with the same rules as for
 * TSSslTicketKeyUpdate. With a NULL path it is the file
 * that proxy.config.ssl.server.ticket_key.filename names, in the folder
 * proxy.config.ssl.server.cert.path if the name is relative; the first attach
 * reads that file too.
 *
 * The file is a run of 48-byte keys. A file whose length is a multiple of 80 and not
 * of 48 has the 80-byte keys of nginx: 16 bytes name, 32 bytes HMAC-SHA256 secret, 32
 * bytes AES-256-CBC key. A file of lines of base64 has the keys of HAProxy, all of
 * 48 or all of 80 bytes, of which the last but one encrypts: 16 bytes name, 16 or 32
 * bytes AES-CBC key, 16 or 32 bytes HMAC-SHA256 secret. Other lines of text are refused.
 *
 * The most recent update wins, from a file or by TSSslTicketKeyUpdate. A file
 * that has not changed since it was read never brings old keys back: the keys in
 * force stay, and the result is TS_SUCCESS. To return to its keys, touch it.
 *
 * The result is TS_ERROR, an error is logged and the keys in force stay when no
 * file is configured, it cannot be read or is not a regular file, or its content
 * is refused. A file that others than its owner may read or write earns a
 * warning. Any thread may call it at any time.
 */
TSReturnCode TSSslTicketKeyFileLoad(const char *path);

/**
 * Forgets every session, wipes it and gives its memory back. Ticket keys stay.
 *
 * Call it when sessions may no longer be trusted, for example after the rules
 * for client certificates have changed. Any thread may call it at any time.
 */
void TSSslSessionCacheClear(void);

/**
 * Returns the version of the library at run time.
 *
 * It can differ from TSSESSION_VERSION, the version of the header that the caller was
 * compiled with. The string is valid forever, and is not the caller's to free. Any thread may
 * call it at any time.
 */
const char *TSSslSessionCacheVersion(void);

#ifdef __cplusplus
}
#endif

#endif /* TSSESSION_SSL_SESSION_CACHE_H */
