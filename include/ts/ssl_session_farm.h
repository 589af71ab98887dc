/** @file

  What a host calls to share its TLS sessions and session-ticket keys with other machines,
  through Redis: libtssession_farm, beside libtssession. <ts/ts.h> may be this library's or
  ATS's own.

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
 * Makes this process a member of a farm, which shares TLS sessions and session-ticket
 * keys between machines through Redis. config_file is the path of its settings;
 * farm.example.toml has them all.
 *
 * Sessions and keys are those of libtssession, which is loaded if the process has not done
 * that; attach contexts to it as ever (TSSslSessionCacheAttach). In Traffic Server one
 * does not call this, but names libtssession_farm.so and the file in plugin.config.
 *
 * The call waits for the ticket keys in force, but for an answer of Redis no longer than
 * redis.timeout says; without one it goes on alone. It starts threads that end with the process:
 * call it after a fork, not before one.
 *
 * The result is TS_ERROR, an error is logged and nothing has changed when config_file is
 * NULL, the file cannot be read, a setting is not valid (the line names it), a function of
 * the host is missing, or the process is a member already. Any thread may call it at any time.
 */
TSReturnCode TSSslSessionFarmStart(const char *config_file);

/**
 * Writes all counters of the farm as text: in the format of Prometheus (version 0.0.4), each
 * under its name with "_" for ".", and the causes of one under a label.
 *
 * The arguments and the result are as in TSSslSessionCacheStatsText: on entry *len_ptr is
 * the space in buffer, in bytes; the result is the number of bytes that the text
 * needs, and on return *len_ptr is the number of bytes stored, as many as fit. So the
 * text was cut off when the result is greater than *len_ptr; it may have grown since a
 * call that asked for its size. There is no NUL at its end. With a NULL buffer, or a
 * space of 0 or less, nothing is stored and *len_ptr becomes 0. The result is 0 when the
 * process is not a member of a farm, and when len_ptr is NULL (an error is logged).
 *
 * Any thread may call it at any time.
 */
int TSSslSessionFarmStatsText(char *buffer, int *len_ptr);

/**
 * Reads one counter of the farm by its name, for example "plugin.tssession_farm.published"; of
 * one that is counted by cause, each part too: "plugin.tssession_farm.refused.forged".
 *
 * The result is TS_ERROR, and *value stays as it is, when there is no such counter, an
 * argument is NULL, or the process is not a member of a farm; that is logged. Any thread may call it
 * at any time.
 */
TSReturnCode TSSslSessionFarmStatGet(const char *name, int64_t *value);

#ifdef __cplusplus
}
#endif

#endif /* TSSESSION_SSL_SESSION_FARM_H */
