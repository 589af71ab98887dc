/** @file

  All counters and settings as text: the rules for the buffer, the format, and the values, which must be
  those of TSSslSessionCacheStatGet.

  SPDX-License-Identifier: Apache-2.0
 */

#include <ctype.h>
#include <limits.h>
#include <time.h>

#include "api.h"
#include "check.h"
#include "tls.h"

static char text[1 << 16];

typedef int (*Write)(char *buffer, int *len_ptr);

static int
fetch(Write write)
{
  int len    = (int)sizeof(text) - 1;
  int needed = write(text, &len);
  CHECK_INT(len, needed);
  REQUIRE(needed > 0 && needed < (int)sizeof(text));
  text[needed] = '\0';
  return needed;
}

static void
check_buffer(Write write)
{
  int needed = fetch(write);
  char buffer[64];

  int len = (int)sizeof(buffer);
  CHECK_INT(write(NULL, &len), needed);
  CHECK_INT(len, 0);
  const int none[] = {0, -1, INT_MIN};
  for (size_t i = 0; i < 3; i++) {
    memset(buffer, 'x', sizeof(buffer));
    len = none[i];
    CHECK_INT(write(buffer, &len), needed);
    CHECK_INT(len, 0);
    CHECK_INT(buffer[0], 'x');
  }
  CHECK_INT(write(buffer, NULL), 0);

  /* A text that is cut off: as many bytes as fit, and no more. */
  memset(buffer, 'x', sizeof(buffer));
  len = 10;
  CHECK_INT(write(buffer, &len), needed);
  CHECK_INT(len, 10);
  CHECK(memcmp(buffer, text, 10) == 0 && buffer[10] == 'x');

  char *exact = malloc((size_t)needed);
  REQUIRE(exact != NULL);
  len = needed;
  CHECK_INT(write(exact, &len), needed);
  CHECK_INT(len, needed);
  CHECK(memcmp(exact, text, (size_t)needed) == 0);
  free(exact);
}

/* Returns the number behind `what` at the start of a line, or -1. */
static long long
number(const char *what)
{
  char line[200];
  snprintf(line, sizeof(line), "\n%s ", what);
  const char *found = strstr(text, line);
  return found == NULL ? -1 : atoll(found + strlen(line));
}

/* Each setting is on a line. */
static void
check_settings(void)
{
  TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.timeout", "1K");
  fetch(TSSslSessionCacheConfigText);
  CHECK(strstr(text, "\nproxy.config.ssl.session_cache.num_buckets 256 (default)\n") != NULL);
  CHECK(strstr(text, "\nproxy.config.ssl.session_cache.timeout 1024 (call)\n") != NULL);
  CHECK(strstr(text, "\nproxy.config.ssl.server.cert.path NULL (default)\n") != NULL);
  TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache.timeout", "0");
}

/* HELP, TYPE and then samples with that name, each with one whole number. */
static void
check_format(void)
{
  char name[128] = "";
  int families = 0, samples = 0;
  char copy[sizeof(text)];
  memcpy(copy, text, sizeof(text));
  CHECK(text[strlen(text) - 1] == '\n');
  for (char *line = strtok(copy, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    char kind[16] = "";
    if (strncmp(line, "# HELP ", 7) == 0) {
      CHECK(families == 0 || samples > 0);
      REQUIRE(sscanf(line, "# HELP %127s", name) == 1);
      for (const char *c = name; *c != '\0'; c++) {
        CHECK(isalnum((unsigned char)*c) || *c == '_');
      }
      families++;
      samples = 0;
    } else if (line[0] == '#') {
      char typed[128] = "";
      CHECK_INT(sscanf(line, "# TYPE %127s %15s", typed, kind), 2);
      CHECK(strcmp(typed, name) == 0 && (strcmp(kind, "counter") == 0 || strcmp(kind, "gauge") == 0));
    } else {
      size_t len = strlen(name);
      CHECK(strncmp(line, name, len) == 0);
      char label[64] = "";
      if (line[len] == '{') {
        int used = 0;
        CHECK_INT(sscanf(line + len, "{%*[a-z_]=\"%63[a-z_0-9]\"}%n", label, &used), 1);
        len += (size_t)used;
      }
      char *end = NULL;
      CHECK(line[len] == ' ' && isdigit((unsigned char)line[len + 1]));
      long long value = strtoll(line + len, &end, 10);
      CHECK_INT(*end, '\0');
      samples++;

      /* The counter with this name has the same value. */
      char own[200];
      snprintf(own, sizeof(own), "%s%s%s", name, label[0] != '\0' ? "." : "", label);
      const char *prefixes[] = {"proxy_process_ssl_",
                                "proxy.process.ssl.",
                                "tssession_session_cache_",
                                "tssession.session_cache.",
                                "tssession_ticket_keys_",
                                "tssession.ticket_keys.",
                                "tssession_",
                                "tssession."};
      for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i += 2) {
        if (strncmp(own, prefixes[i], strlen(prefixes[i])) == 0) {
          memcpy(own, prefixes[i + 1], strlen(prefixes[i]));
        }
      }
      CHECK_INT(api_stat(own), value);
    }
  }
  CHECK(families >= 20 && samples > 0);
}

static void
check_causes(void)
{
  SSL_SESSION *session = tls_session(0);
  SSL_SESSION *empty   = SSL_SESSION_new();
  SSL_SESSION *brief   = SSL_SESSION_dup(session);
  SSL_SESSION *old     = SSL_SESSION_dup(session);
  SSL_SESSION *large   = tls_session(17000);
  TSSslSessionID one   = api_numbered_id(1);
  TSSslSessionID two   = api_numbered_id(2);
  TSSslSessionID bad   = api_id(33, 1);
  int len              = 0;

  CHECK_INT(TSSslSessionInsert(&one, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&one, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionGetBuffer(&two, NULL, &len), 0);
  CHECK_INT(TSSslSessionGetBuffer(&two, NULL, &len), 0);
  tls_set_time(brief, (long)time(NULL));
  SSL_SESSION_set_timeout(brief, 1);
  CHECK_INT(TSSslSessionInsert(&two, (TSSslSession)brief), TS_SUCCESS);
  struct timespec nap = {.tv_sec = 1, .tv_nsec = 200000000};
  while (TSSslSessionGetBuffer(&two, NULL, &len) != 0) {
    nanosleep(&nap, NULL);
  }

  CHECK_INT(TSSslSessionInsert(&bad, (TSSslSession)session), TS_ERROR);
  CHECK_INT(TSSslSessionInsert(NULL, (TSSslSession)session), TS_ERROR);
  CHECK_INT(TSSslSessionInsert(&two, NULL), TS_ERROR);
  CHECK_INT(TSSslSessionInsert(&two, (TSSslSession)empty), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(&two, "x", 1), TS_ERROR);
  CHECK_INT(TSSslSessionInsertBuffer(&bad, "x", 1), TS_ERROR);
  tls_set_time(old, 1000);
  CHECK_INT(TSSslSessionInsert(&two, (TSSslSession)old), TS_ERROR);
  CHECK_INT(TSSslSessionInsert(&two, (TSSslSession)large), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_cache.max_bytes", "10"), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&two, (TSSslSession)session), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet("tssession.session_cache.max_bytes", "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&one, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionRemove(&one), TS_SUCCESS);
  CHECK_INT(TSSslSessionRemove(&one), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&one, (TSSslSession)session), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "0"), TS_SUCCESS);
  CHECK_INT(TSSslSessionInsert(&one, (TSSslSession)session), TS_ERROR);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.session_cache", "2"), TS_SUCCESS);

  fetch(TSSslSessionCacheStatsText);
  CHECK_INT(number("tssession_session_cache_get{result=\"absent\"}"), 2);
  CHECK_INT(number("tssession_session_cache_get{result=\"expired\"}"), 1);
  CHECK_INT(number("tssession_session_cache_get{result=\"contention\"}"), 0);
  CHECK_INT(api_stat(STAT_GET), number("tssession_session_cache_get{result=\"found\"}") + 3);
  CHECK_INT(api_stat(STAT_MISS), 0);
  CHECK_INT(number("proxy_process_ssl_ssl_session_cache_new_session"), 5);
  CHECK_INT(number("tssession_session_cache_replaced"), 1);
  CHECK_INT(number("tssession_session_cache_refused{cause=\"invalid\"}"), 6);
  CHECK_INT(number("tssession_session_cache_refused{cause=\"expired\"}"), 1);
  CHECK_INT(number("tssession_session_cache_refused{cause=\"too_large\"}"), 2);
  CHECK_INT(number("tssession_session_cache_refused{cause=\"off\"}"), 1);
  CHECK_INT(api_stat(STAT_REFUSED), 10);
  CHECK_INT(number("tssession_session_cache_removed"), 1);
  CHECK_INT(number("tssession_session_cache_cleared"), 1);
  CHECK_INT(number("proxy_process_ssl_ssl_session_cache_eviction"), 1);
  CHECK_INT(number("tssession_session_cache_expired"), 1);
  CHECK_INT(number("tssession_session_cache_entries"), 0);
  CHECK_INT(number("tssession_session_cache_bytes"), 0);

  SSL_SESSION_free(session);
  SSL_SESSION_free(empty);
  SSL_SESSION_free(brief);
  SSL_SESSION_free(old);
  SSL_SESSION_free(large);
}

static void
use_keys(const char *letters)
{
  char keys[8 * 48];
  size_t count = strlen(letters);
  for (size_t i = 0; i < count; i++) {
    memset(keys + i * 48, letters[i], 48);
  }
  TSSslTicketKeyUpdate(keys, (int)(count * 48));
}

/* Tickets by the age of their key, and the number of times that keys became active. */
static void
check_tickets(void)
{
  SSL_CTX *server       = tls_server(TLS1_2_VERSION);
  SSL_CTX *client       = tls_client(TLS1_2_VERSION);
  SSL_SESSION *a_ticket = NULL;

  CHECK_INT(api_stat(STAT_GENERATION), 0);
  CHECK_INT(api_stat(STAT_KEYS), 0);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_GENERATION), 1);
  CHECK_INT(api_stat(STAT_KEYS), 1);
  CHECK_INT(api_stat(STAT_KEYS_RENEWED), 0);

  use_keys("a");
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &a_ticket), 0);
  const char *rings[] = {"a", "ba", "cba", "dcba", "edcba", "b"};
  for (size_t i = 0; i < 6; i++) {
    use_keys(rings[i]);
    CHECK_INT(tls_visit(server, client, a_ticket, TLS_CLEAN, NULL), i < 5);
  }
  fetch(TSSslSessionCacheStatsText);
  CHECK_INT(number("proxy_process_ssl_total_tickets_verified{key_age=\"0\"}"), 1);
  CHECK_INT(number("proxy_process_ssl_total_tickets_verified{key_age=\"1\"}"), 1);
  CHECK_INT(number("proxy_process_ssl_total_tickets_verified{key_age=\"2\"}"), 1);
  CHECK_INT(number("proxy_process_ssl_total_tickets_verified{key_age=\"older\"}"), 2);
  CHECK_INT(api_stat(STAT_VERIFIED), 5);
  CHECK_INT(number("proxy_process_ssl_total_tickets_verified_old_key"), 4);
  CHECK_INT(number("proxy_process_ssl_total_tickets_not_found"), 1);
  CHECK_INT(number("proxy_process_ssl_total_ticket_keys_renewed"), 7);
  CHECK_INT(number("tssession_ticket_keys_generation"), 8);
  CHECK_INT(number("tssession_ticket_keys_count"), 1);

  tls_free(server, client, a_ticket);
}

int
main(void)
{
  api_open();
  check_buffer(TSSslSessionCacheStatsText);
  check_buffer(TSSslSessionCacheConfigText);
  check_settings();
  check_causes();
  check_tickets();
  fetch(TSSslSessionCacheStatsText);
  check_format();
  check_buffer(TSSslSessionCacheStatsText);
  check_buffer(TSSslSessionCacheConfigText);
  check_settings();
  CHECK_INT(api_stat(STAT_MISS ".other"), -1);
  CHECK_INT(api_stat(STAT_MISS "."), -1);
  CHECK_INT(api_stat(STAT_ENTRIES ".absent"), -1);
  return check_result();
}
