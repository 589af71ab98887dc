/** @file

  The functions of libtssession for hosts, whose SSL_CTXs' sessions and tickets it
  serves. They have C linkage, whatever <ts/ts.h> declares. <ts/ts.h> may be that of
  this library or that of ATS.

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
 * The level of a line about a failure.
 */
#define TS_SSL_SESSION_CACHE_LOG_ERROR 1

/**
 * The level of a line about something that was done, but not as requested.
 */
#define TS_SSL_SESSION_CACHE_LOG_WARNING 2

/**
 * The level of a line about normal operation. Only these lines name session IDs, in hex.
 */
#define TS_SSL_SESSION_CACHE_LOG_DEBUG 3

/**
 * A function that receives the library's log lines. tag is as in ATS, for example
 * "ssl.session_cache.insert"; line has no line break. Both are valid during the call.
 */
typedef void (*TSSslSessionCacheLogFunc)(TSCont contp, int level, const char *tag, const char *line);

/**
 * Attaches an SSL_CTX to the session cache and to the ticket keys.
 *
 * It sets the session callbacks, the session cache mode, the ticket-key callback and the
 * callback for decrypted tickets of ctx, according to the current settings. Attaching a
 * context again applies the settings again: settings that the host changed in the meantime are
 * kept unless a library setting overrides them. An attached context is a server's: sessions of
 * clients are not cached. A timeout of more than 7 days (SSL_CTX_set_timeout) becomes 7 days.
 *
 * All attached contexts share the cache and the ticket keys. Only the session ID context keeps
 * their sessions apart, and the host sets it (SSL_CTX_set_session_id_context): contexts that
 * ask for client certificates must have one, and contexts with different rules for clients
 * must have different ones. If such contexts share one, a connection that requires a client
 * certificate (SSL_VERIFY_PEER and SSL_VERIFY_FAIL_IF_NO_PEER_CERT when it looks for the
 * session) does not resume a session that has none, by ID or by ticket. But if two of them
 * require certificates of different authorities, each resumes the sessions of the other.
 *
 * OpenSSL does not report the session-ticket callbacks of a context. A host that has its own
 * (SSL_CTX_set_session_ticket_cb) sets them after attaching. They are kept when the context is
 * attached again, and must then refuse sessions without a required client certificate.
 *
 * A host that has its own ticket keys keeps them by setting tssession.session_ticket.mode to 0
 * (TSSslSessionCacheConfigSet) before attaching. The ticket-key callback, the session-ticket
 * callbacks, the number of tickets and SSL_OP_NO_TICKET then stay as they are, the host must
 * refuse sessions in tickets itself, and TSSslTicketKeyUpdate does not affect this context. A
 * context that is attached again in the other mode changes over: the callbacks that the
 * library had set become NULL.
 *
 * Returns:
 *   TS_SUCCESS if the context is attached, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if ctx is NULL or there is no memory. An error is logged.
 *
 * Threads:
 *   Other threads must not use ctx meanwhile: attach it when it is set up, before connections
 *   use it. OpenSSL does not protect a context against changes while it is in use. The host
 *   still owns ctx.
 *
 * Source:
 *   RFC 8446, 4.6.1, for the 7 days.
 */
TSReturnCode TSSslSessionCacheAttach(TSSslContext ctx);

/**
 * Detaches an SSL_CTX from the session cache and from the ticket keys.
 *
 * The session callbacks, modes and numbers of ctx become what they were before
 * TSSslSessionCacheAttach, or what the host has set since. If the library served its tickets
 * (tssession.session_ticket.mode), the ticket-key callback and the session-ticket callbacks
 * become NULL, because OpenSSL does not report what they were. A context that is not attached
 * stays as it is.
 *
 * Returns:
 *   TS_SUCCESS, also for a context that is not attached; otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if ctx is NULL. An error is logged.
 *
 * Threads:
 *   Other threads must not use ctx meanwhile. The host still owns ctx, and need not detach it
 *   before SSL_CTX_free.
 */
TSReturnCode TSSslSessionCacheDetach(TSSslContext ctx);

/**
 * Changes one setting.
 *
 * name is that of the ATS record, for example "proxy.config.ssl.session_cache.size", and value
 * its text, for example "4096". tssession(3) lists all settings. A number can end in K, M, G
 * or T.
 *
 * The setting is active when the call returns, but one that shapes a context (tickets, modes)
 * when the context is next attached. A smaller cache keeps as many sessions as fit; one that
 * is switched off discards all. The number of shards
 * (proxy.config.ssl.session_cache.num_buckets) is fixed once the cache is in use.
 *
 * The environment overrides this call, and this call overrides a file
 * (TSSslSessionCacheConfigLoad). If an environment variable sets the same record, its value
 * stays active and a warning is logged.
 *
 * Returns:
 *   TS_SUCCESS if the setting is accepted, even if the environment overrides it; otherwise
 *   TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if there is no such setting, the value is not valid, or an argument is NULL. An
 *   error is logged and nothing changes.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
TSReturnCode TSSslSessionCacheConfigSet(const char *name, const char *value);

/**
 * Loads the settings in a file of ATS records.
 *
 * If path ends in .yaml or .yml, the file has nested maps under "records:" (ATS 10 and later),
 * otherwise lines as in records.config (ATS 9 and earlier). The library's own records, for
 * example "tssession.session_cache.max_bytes", are written in the same way; in YAML as nested
 * maps at the top level or under "records:". Unknown records are skipped; a warning is logged
 * for one that begins with "tssession.".
 *
 * All settings in the file become active, as with TSSslSessionCacheConfigSet, or none.
 * Settings made by the environment or by TSSslSessionCacheConfigSet stay. A record that is no
 * longer in the file keeps its value. Of two files that are read at the same time, the one that
 * was opened later wins.
 *
 * To reload a file that has changed, load it again: all sessions that fit are kept. Ticket
 * keys are not read; call TSSslTicketKeyFileLoad(NULL) for them.
 *
 * Returns:
 *   TS_SUCCESS if the settings in the file are accepted, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if path is NULL or empty, the file cannot be read, is not a regular file, is larger
 *   than 1 MiB or is not in the format that its name says, or a value is not valid. An error
 *   with the file, the line and the record is logged, and nothing changes.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
TSReturnCode TSSslSessionCacheConfigLoad(const char *path);

/**
 * Sends the library's log lines to a function of the host.
 *
 * From now on func(contp, level, tag, line) is called for each line of the given level
 * (TS_SSL_SESSION_CACHE_LOG_ERROR, _WARNING or _DEBUG) or a more severe one. If func is NULL,
 * errors and warnings go to stderr again.
 *
 * func is not called if the process exports TSError, as traffic_server does: all lines then go
 * to TSError, TSWarning and TSDebug. Nor is it called in a Rust program that has its own
 * logger, which gets the lines. Wherever they go, errors and warnings of one kind are limited
 * to a burst of 100 and then one a second.
 *
 * Returns:
 *   TS_SUCCESS if the function is set, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if level is none of the three or there is no memory. An error is logged and nothing
 *   changes.
 *
 * Threads:
 *   Any thread can call it at any time. func is called on the thread that logs, which waits for
 *   it. No lock is held: func can call every function of the library, and the lines that this
 *   causes go to stderr. A C++ exception, pthread_exit or the cancellation of the thread must
 *   not leave func. When func is replaced, a call in progress on another thread continues.
 */
TSReturnCode TSSslSessionCacheLogSet(TSSslSessionCacheLogFunc func, TSCont contp, int level);

/**
 * Reads one counter.
 *
 * name is that of the ATS metric, for example "proxy.process.ssl.ssl_session_cache_hit".
 * tssession(3) lists all counters. If a counter is divided by cause or age, each part can be
 * read too, for example "proxy.process.ssl.ssl_session_cache_miss.expired".
 *
 * Returns:
 *   TS_SUCCESS, with the count in *value; otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if there is no such counter or an argument is NULL. An error is logged and *value
 *   stays as it is.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
TSReturnCode TSSslSessionCacheStatGet(const char *name, int64_t *value);

/**
 * Writes all counters as text in the format of Prometheus.
 *
 * Each counter has its name with "_" for ".", and its parts have a label. On entry *len_ptr is
 * the space in buffer, in bytes; on return it is the number of bytes stored. Text that does
 * not fit is truncated; there is no NUL at its end. If buffer is NULL or the space is 0 or
 * less, nothing is stored and *len_ptr becomes 0.
 *
 * Returns:
 *   The size of the whole text in bytes. If it is greater than *len_ptr, the text was truncated.
 *   The text can grow between a call that asks for its size and the next one.
 *
 * Errors:
 *   0 if len_ptr is NULL. An error is logged.
 *
 * Threads:
 *   Any thread can call it at any time.
 *
 * Source:
 *   Text-based format of Prometheus, version 0.0.4.
 */
int TSSslSessionCacheStatsText(char *buffer, int *len_ptr);

/**
 * Adds a hook, a function that is called when handshakes use the cache.
 *
 * func(contp, event, id) is called after a handshake through an attached context has stored a
 * session (TS_EVENT_SSL_SESSION_NEW) or fetched one (TS_EVENT_SSL_SESSION_GET), and after a
 * failed connection has removed one, or the operator of a Traffic Server has ordered it
 * (TS_EVENT_SSL_SESSION_REMOVE). id is a TSSslSessionID *
 * that is valid during the call.
 *
 * For a session that may carry early data there is no TS_EVENT_SSL_SESSION_NEW: it is used once, in
 * this process, and must not be copied to others.
 *
 * Calls of the library's functions call no hook: a plugin that inserts a session when its hook
 * is called causes no further call. Adding the same func and contp again changes nothing.
 *
 * Returns:
 *   TS_SUCCESS if the hook is set, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if func is NULL or there is no memory. An error is logged.
 *
 * Threads:
 *   Any thread can call it at any time. func is called on the thread of the handshake, which
 *   waits for it. No lock is held: func can call every function of the library. A C++ exception,
 *   pthread_exit or the cancellation of the thread must not leave func.
 */
TSReturnCode TSSslSessionHookAdd(TSEventFunc func, TSCont contp);

/**
 * Removes a hook.
 *
 * func and contp are those of the call of TSSslSessionHookAdd.
 *
 * Returns:
 *   TS_SUCCESS if the hook is removed, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if there is no such hook. An error is logged.
 *
 * Threads:
 *   Any thread can call it at any time, func included. A call of func in progress on another
 *   thread continues. No call begins after this function has returned, except one that was about
 *   to begin: wait for the connections to end before unloading func.
 */
TSReturnCode TSSslSessionHookRemove(TSEventFunc func, TSCont contp);

/**
 * Inserts a session into the cache from its DER bytes.
 *
 * buffer has the len bytes that TSSslSessionGetBuffer stored, in this process or another.
 * Otherwise it works as TSSslSessionInsert. No hook is called.
 *
 * Returns:
 *   TS_SUCCESS if the session is stored, otherwise TS_ERROR.
 *
 * Errors:
 *   As for TSSslSessionInsert. TS_ERROR also if buffer is NULL or its len bytes are not exactly
 *   one whole session; an error is logged.
 *
 * Threads:
 *   Any thread can call it at any time. The ID and the bytes are copied.
 */
TSReturnCode TSSslSessionInsertBuffer(const TSSslSessionID *sessionid, const char *buffer, int len);

/**
 * Replaces the session-ticket keys by those in a file.
 *
 * If path is NULL, the file is that which proxy.config.ssl.server.ticket_key.filename names,
 * in the directory proxy.config.ssl.server.cert.path if the name is relative. The first attach
 * reads that file too. The rules for the keys are those of TSSslTicketKeyUpdate.
 *
 * The file is a sequence of 48-byte keys. If its length is a multiple of 80 and not of 48, it
 * has the 80-byte keys of nginx: 16 bytes name, 32 bytes HMAC-SHA256 secret, 32 bytes
 * AES-256-CBC key. If it has lines of base64, they are the keys of HAProxy, all of 48 or all
 * of 80 bytes: 16 bytes name, 16 or 32 bytes AES-CBC key, 16 or 32 bytes HMAC-SHA256 secret;
 * the last but one encrypts. Other text (with line breaks, in UTF-16, hexadecimal, PEM) is
 * refused whatever its length, and so are keys with a line break behind them; a byte order mark
 * is skipped. If users other than its owner can read or write the file, a warning is
 * logged. A debug line says how many keys of which layout are active.
 *
 * The most recent update wins, whether from a file or from TSSslTicketKeyUpdate. The file that
 * was read last never brings old keys back unless it has changed since: the active keys stay.
 * To return to its keys, touch it. Of two files that are read at the same time, the one that
 * was opened later wins.
 *
 * Returns:
 *   TS_SUCCESS if the keys in the file are active or the file has not changed, otherwise
 *   TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if path is empty, no file is configured, the file cannot be read or is not a
 *   regular file, or its content is refused. An error is logged and the old keys stay active.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
TSReturnCode TSSslTicketKeyFileLoad(const char *path);

/**
 * Makes a new random session-ticket key, which encrypts from now on.
 *
 * The keys that were active still decrypt, but for the oldest if there are more than 200. The new
 * key is in this process only: where several processes or machines share ticket keys, give all of
 * them the same set with TSSslTicketKeyUpdate instead, or use TSSslSessionFarmRotate.
 *
 * Returns:
 *   TS_SUCCESS if the new key is active, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if OpenSSL has no random bytes or there is no memory. An error is logged and the old
 *   keys stay active.
 *
 * Threads:
 *   Any thread can call it at any time. Of two calls at the same time, both keys are active after.
 */
TSReturnCode TSSslTicketKeyRotate(void);

/**
 * Writes all settings as text, a line for each: its name, its value, and its source in brackets.
 *
 * For example "proxy.config.ssl.session_cache.size 102400 (default)". A source is default, file
 * (TSSslSessionCacheConfigLoad), call (TSSslSessionCacheConfigSet), environment, or plugin.config. A setting
 * without a value is NULL. On entry *len_ptr is the space in buffer, in bytes; on return it is the
 * number of bytes stored. Text that does not fit is truncated; there is no NUL at its end. If buffer
 * is NULL or the space is 0 or less, nothing is stored and *len_ptr becomes 0.
 *
 * Returns:
 *   The size of the whole text in bytes. If it is greater than *len_ptr, the text was truncated.
 *
 * Errors:
 *   0 if len_ptr is NULL. An error is logged.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
int TSSslSessionCacheConfigText(char *buffer, int *len_ptr);

/**
 * Discards all sessions, wiping them and freeing their memory.
 *
 * Call it when sessions are no longer to be trusted, for example after the rules for client
 * certificates have changed. The ticket keys stay active, and tickets valid.
 *
 * Returns:
 *   Nothing.
 *
 * Errors:
 *   None.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
void TSSslSessionCacheClear(void);

/**
 * Reports the version of the library at run time.
 *
 * It can differ from TSSESSION_VERSION, the version of the header that the caller was compiled
 * with.
 *
 * Returns:
 *   A string, for example "0.1.0". It is valid forever; the caller does not free it.
 *
 * Errors:
 *   None.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
const char *TSSslSessionCacheVersion(void);

#ifdef __cplusplus
}
#endif

#endif /* TSSESSION_SSL_SESSION_CACHE_H */
