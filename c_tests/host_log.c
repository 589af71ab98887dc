/** @file

  A host with the log functions of traffic_server: they get all lines, and a function that was set gets
  none. Built in these ways:

    -DATS_9    TSError, TSWarning, TSDebug, TSIsDebugTagSet
    -DFEWER    TSError and TSDebug only
    -DATS_10   TSError, TSWarning and the class DbgCtl by their C++ names
    -DNO_DEBUG TSError and TSWarning by their C++ names

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#if defined(ATS_10) || defined(NO_DEBUG)
#define SYMBOL(name, cxx_name) __asm__(cxx_name)
#else
#define SYMBOL(name, cxx_name) __asm__(name)
#endif

static int errors;
static char line[512];
static const char *tags_on = "";

void host_error(const char *format, ...) SYMBOL("TSError", "_Z7TSErrorPKcz");

void
host_error(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  errors++;
}

#ifndef FEWER
static int warnings;

void host_warning(const char *format, ...) SYMBOL("TSWarning", "_Z9TSWarningPKcz");

void
host_warning(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  warnings++;
}
#endif

#ifndef NO_DEBUG
static char debug_tag[64];
static int debugs;

#ifdef ATS_10
/* The data that DbgCtl's inline functions read: whether debug lines are on, and a
   std::pair<char const *const, bool> for each tag. */
int dbg_config_mode __asm__("_ZN6DbgCtl12_config_modeE");

static struct state {
  const char *tag;
  _Bool is_on;
} states[8];

const struct state *dbg_new_reference(const char *tag) __asm__("_ZN6DbgCtl14_new_referenceEPKc");

const struct state *
dbg_new_reference(const char *tag)
{
  struct state *state = states;
  while (state->tag != NULL && strcmp(state->tag, tag) != 0) {
    state++;
  }
  state->tag = tag;
  return state;
}

void host_debug(const char *tag, const char *file, const char *function, int source_line, const char *format,
                ...) __asm__("_ZN6DbgCtl5printEPKcS1_S1_iS1_z");

void
host_debug(const char *tag, const char *file, const char *function, int source_line, const char *format, ...)
{
  CHECK(file != NULL && function != NULL && source_line == 0);
#else
void host_debug(const char *tag, const char *format, ...) __asm__("TSDebug");

void
host_debug(const char *tag, const char *format, ...)
{
  if (strcmp(tags_on, tag) != 0) {
    return;
  }
#endif
  va_list args;
  va_start(args, format);
  vsnprintf(line, sizeof(line), format, args);
  va_end(args);
  snprintf(debug_tag, sizeof(debug_tag), "%s", tag);
  debugs++;
}
#endif

#ifdef ATS_9
int TSIsDebugTagSet(const char *tag);

int
TSIsDebugTagSet(const char *tag)
{
  /* This call logs too: the host must not be called again for that line. */
  TSSslSessionID id = api_numbered_id(9);
  TSSslSessionRemove(&id);
  return strcmp(tags_on, tag) == 0;
}
#endif

/* The operator turns on debug lines with these tags. */
static void
turn_on(const char *tags)
{
  tags_on = tags;
#ifdef ATS_10
  dbg_config_mode = 1;
  for (struct state *state = states; state->tag != NULL; state++) {
    state->is_on = strcmp(tags, state->tag) == 0;
  }
#endif
}

static void
never(TSCont contp, int level, const char *tag, const char *text)
{
  (void)contp, (void)level, (void)tag, (void)text;
  CHECK(0 && "the host's own functions count more");
}

int
main(void)
{
  api_open();
  CHECK_INT(TSSslSessionCacheLogSet(never, NULL, TS_SSL_SESSION_CACHE_LOG_DEBUG), TS_SUCCESS);
  SSL_SESSION *session = tls_session(0);
  TSSslSessionID id    = {3, "\x01\xab\x7f"};
  char keys[50];
  memset(keys, 'w', sizeof(keys));

  CHECK(TSSslSessionGet(NULL) == NULL);
  CHECK_INT(errors, 1);
  CHECK(strcmp(line, "tssession: TSSslSessionGet: the session ID is NULL") == 0);

  TSSslTicketKeyUpdate(keys, sizeof(keys));
#ifdef FEWER
  CHECK_INT(errors, 2);
#else
  CHECK_INT(warnings, 1);
#endif
  CHECK(strstr(line, "the last 2 bytes") != NULL);

  /* Text of a caller is not used as a format. */
  CHECK_INT(TSSslSessionCacheConfigSet("%s%n%s", "1"), TS_ERROR);
  CHECK(strstr(line, "%s%n%s") != NULL);

  /* Debug lines appear for tags that are on. The operator switches tags while the host runs, and a
     change is noticed within a second. */
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK(strstr(line, "01ab7f") == NULL);
  turn_on("ssl.session_cache.insert");
  struct timespec nap = {.tv_sec = 1, .tv_nsec = 100000000};
  nanosleep(&nap, NULL);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionRemove(&id), TS_SUCCESS);
#ifdef NO_DEBUG
  CHECK(strstr(line, "01ab7f") == NULL);
#else
  CHECK_INT(debugs, 1);
  CHECK(strcmp(debug_tag, "ssl.session_cache.insert") == 0);
  CHECK(strstr(line, "01ab7f") != NULL && strstr(line, "stored") != NULL);
#endif
  turn_on("");
  nanosleep(&nap, NULL);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
#ifndef NO_DEBUG
  CHECK_INT(debugs, 1);
#endif
#if !defined(NO_DEBUG) && !defined(FEWER)
  /* The library logs its version once, if that tag is on. */
  turn_on("ssl.session_cache");
  for (int i = 0; i < 2; i++) {
    nanosleep(&nap, NULL);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
    CHECK_INT(debugs, 2);
  }
  CHECK(strstr(line, "libtssession ") != NULL && strstr(line, ", built with OpenSSL ") != NULL);
  CHECK(strstr(line, ", runs with OpenSSL ") != NULL);
  debugs = 1;
#endif
#ifdef ATS_10
  /* A tag is not enough if debug lines are off, or on for certain clients only. */
  turn_on("ssl.session_cache.insert");
  for (dbg_config_mode = 0; dbg_config_mode <= 2; dbg_config_mode += 2) {
    nanosleep(&nap, NULL);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
    CHECK_INT(debugs, 1);
  }
#endif

  SSL_SESSION_free(session);
  return check_result();
}
