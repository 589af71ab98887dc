/** @file

  What a test tells the Traffic Server of server.c to do, and what that was told by plugins.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef ATS_SERVER_H
#define ATS_SERVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The calls of plugins since it was emptied, a line each: NAME(ARGUMENTS). */
extern char ats_log[1 << 16];

/* The last line of each level, without the name of its function. */
extern char ats_error[2048], ats_warning[2048], ats_note[8192];

/* The record for the server's own session cache; negative: there is none. ats_own_cache_source is that of
   its value (TSMgmtSource). */
extern const char *ats_own_cache_record;
extern int64_t ats_own_cache;

/* The directory of its configuration, and of its installation. */
extern const char *ats_directory;

/* How many plugins are registered, and how many hooks they have. */
extern int ats_registered;
int ats_lifecycle_hooks(void);
int ats_http_hooks(void);

/* Loads a plugin as a line of plugin.config: ends the process if it does not register. */
void ats_load(const char *path, int argc, const char *const *argv);

/* What happens in a server, in the order of its life. */
void ats_tell_of_context(void *ctx);
void ats_open_ports(void);
void ats_start_task_threads(void);
/* The result: how often the plugins have let the connection go on. */
int ats_connect(void *ssl);
void ats_report_session(int event, const char *id, size_t len);
/* Certificates are loaded again: contexts are reported by as many threads. */
void ats_tell_of_contexts(void *const *contexts, int count);
/* The configuration is: whether there was anybody to tell. */
int ats_reload(void);
/* What is scheduled is due: whether there is anything. */
int ats_tick(void);
/* traffic_ctl plugin msg TAG TEXT */
void ats_send_message(const char *tag, const char *text);

/* The value of a statistic; -1: there is none. */
int64_t ats_statistic(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* ATS_SERVER_H */
