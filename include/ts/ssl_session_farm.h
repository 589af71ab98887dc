/** @file

  Functions of libtssession_farm, which works beside libtssession: a host shares its TLS
  sessions and session-ticket keys with other machines through Redis. <ts/ts.h> may be this
  library's or ATS's own.

  Generated from farm/src/ffi.rs by farm/build.rs; do not edit.
  SPDX-License-Identifier: Apache-2.0
 */

#ifndef TSSESSION_SSL_SESSION_FARM_H
#define TSSESSION_SSL_SESSION_FARM_H

#include <stdint.h>
#include <ts/ts.h>

/* The version of this header; that of the library: TSSslSessionCacheVersion(). */
#define TSSESSION_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Makes this process a member of a farm.
 *
 * The members of a farm share TLS sessions and session-ticket keys between machines through
 * Redis. config_file is the path of the file of settings; farm.example.toml shows all settings.
 *
 * The sessions and keys are those of libtssession. The call loads it if the process has not;
 * attach contexts to it as usual (TSSslSessionCacheAttach). In Traffic Server, name
 * libtssession_farm.so and the file in plugin.config instead of calling this function.
 *
 * The call waits until the farm's ticket keys are active, but no longer than twice redis.timeout.
 * Without an answer from Redis the process continues alone, and joins when Redis answers.
 *
 * Returns:
 *   TS_SUCCESS if the process is a member now, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if config_file is NULL, the file cannot be read and was not read before
 *   (TSSslSessionFarmPrepare), a setting is not valid (the log line
 *   names it), a function of the host is missing, a thread cannot be started, another thread is in
 *   this call, or the process is a member already. An error is logged and nothing changes: the call
 *   can be repeated.
 *
 * Threads:
 *   Any thread can call it at any time. It starts threads that end with the process: call it
 *   after a fork, not before one. A forked child of a member is not a member; it can become one
 *   by this call.
 */
TSReturnCode TSSslSessionFarmStart(const char *config_file);

/**
 * Reads the settings of a farm, and the files that they name, for a later start.
 *
 * A host that gives up the right to read these files, or the directory that they are in, calls this
 * function first. The next call of TSSslSessionFarmStart with the same config_file, in this
 * process or in a forked child, uses what was read and opens none of these files. Each process
 * uses it for one start, also for one that fails; a second call of this function replaces it.
 * Until then the secrets are in this process's memory, and in that of its forked children.
 *
 * The call starts no thread and no connection.
 *
 * Returns:
 *   TS_SUCCESS if everything was read and is valid, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if config_file is NULL, a file cannot be read, a setting is not valid (the line
 *   names it), or another thread is starting the farm. An error is logged, and what was read
 *   before is kept.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
TSReturnCode TSSslSessionFarmPrepare(const char *config_file);

/**
 * Writes all counters of the farm as text in the format of Prometheus.
 *
 * The function works like TSSslSessionCacheStatsText. On entry *len_ptr is the space in buffer,
 * in bytes; on return it is the number of bytes stored. Text that does not fit is truncated;
 * there is no NUL at its end. If buffer is NULL or the space is 0 or less, nothing is stored and
 * *len_ptr becomes 0. Each counter has its name with "_" for ".", and its causes have a label.
 *
 * Returns:
 *   The size of the whole text in bytes. If it is greater than *len_ptr, the text was truncated.
 *   The text can grow between a call that asks for its size and the next one.
 *
 * Errors:
 *   0 if the process is not a member of a farm, or if len_ptr is NULL (an error is logged).
 *
 * Threads:
 *   Any thread can call it at any time.
 *
 * Source:
 *   Text-based format of Prometheus, version 0.0.4.
 */
int TSSslSessionFarmStatsText(char *buffer, int *len_ptr);

/**
 * Writes one line about this member: who leads, whether Redis answers, and what was exchanged.
 *
 * On entry *len_ptr is the space in buffer, in bytes; on return it is the number of bytes
 * stored. A line that does not fit is truncated; there is no NUL and no line break at its end.
 * If buffer is NULL or the space is 0 or less, nothing is stored and *len_ptr becomes 0. In
 * Traffic Server, "traffic_ctl plugin msg tssession 'farm status'" writes the line to diags.log.
 *
 * Returns:
 *   The size of the whole line in bytes. If it is greater than *len_ptr, the line was truncated.
 *
 * Errors:
 *   0 if the process is not a member of a farm, or if len_ptr is NULL (an error is logged).
 *
 * Threads:
 *   Any thread can call it at any time.
 */
int TSSslSessionFarmStatusText(char *buffer, int *len_ptr);

/**
 * Orders a new ticket key for the farm, if this member leads.
 *
 * The member makes the key within a second, and all members receive it. It starts to encrypt
 * after the time that the setting ticket_keys.spread gives. Older keys decrypt for their
 * lifetime. A log line reports that the key was made or why it was not: the newest key does not
 * encrypt yet, a key that still decrypts would have to be dropped, or Redis does not answer. In
 * Traffic Server, "traffic_ctl plugin msg tssession 'farm rotate'" does the same.
 *
 * Returns:
 *   TS_SUCCESS if this member leads and accepts the order, otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if another member leads (the log line names it), no member leads, ticket keys are not
 *   shared, or the process is not a member of a farm. An error is logged and the keys are
 *   unchanged.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
TSReturnCode TSSslSessionFarmRotate(void);

/**
 * Reads one counter of the farm.
 *
 * name is the name of a counter, for example "plugin.tssession_farm.published". If a counter is
 * divided by cause, each part can be read too, for example
 * "plugin.tssession_farm.refused.forged".
 *
 * Returns:
 *   TS_SUCCESS, with the count in *value; otherwise TS_ERROR.
 *
 * Errors:
 *   TS_ERROR if there is no such counter, an argument is NULL, or the process is not a member of
 *   a farm. An error is logged and *value stays as it is.
 *
 * Threads:
 *   Any thread can call it at any time.
 */
TSReturnCode TSSslSessionFarmStatGet(const char *name, int64_t *value);

#ifdef __cplusplus
}
#endif

#endif /* TSSESSION_SSL_SESSION_FARM_H */
