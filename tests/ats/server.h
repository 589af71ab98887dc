/** @file

  With this, a test controls the Traffic Server of server.c, and reads the calls that plugins made.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef ATS_SERVER_H
#define ATS_SERVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The calls of plugins since this was emptied, one on each line: NAME(ARGUMENTS). */
extern char ats_log[1 << 16];

/* The last log line of each level, without the name of its function. */
extern char ats_error[2048], ats_warning[2048], ats_note[8192];

/* The record for the server's own session cache: its name, its value (negative if there is no such record)
   and the source of the value (TSMgmtSource). */
extern const char *ats_own_cache_record;
extern int64_t ats_own_cache;

/* The directory of the configuration, and of the installation. */
extern const char *ats_directory;

/* How many plugins are registered, and how many hooks they have. */
extern int ats_registered;
int ats_lifecycle_hooks(void);
int ats_http_hooks(void);

/* Loads a plugin as for a line of plugin.config. Ends the process if the plugin does not register. */
void ats_load(const char *path, int argc, const char *const *argv);

/* The events in the life of a server, in order. */
void ats_tell_of_context(void *ctx);
void ats_open_ports(void);
void ats_start_task_threads(void);
/* Returns how often the plugins reenabled the connection. */
int ats_connect(void *ssl);
void ats_report_session(int event, const char *id, size_t len);
/* Certificates are reloaded: a separate thread reports each context. */
void ats_tell_of_contexts(void *const *contexts, int count);
/* The configuration is reloaded. Returns whether a plugin has a hook for that. */
int ats_reload(void);
/* Scheduled work is due. Returns whether there was any. */
int ats_tick(void);
/* traffic_ctl plugin msg TAG TEXT */
void ats_send_message(const char *tag, const char *text);

/* Returns the value of a statistic, or -1 if there is none. */
int64_t ats_statistic(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* ATS_SERVER_H */
