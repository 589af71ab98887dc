/** @file

  Resumption does not extend a session's life. However often a client returns, by ID or by ticket, it
  resumes only until the set time after its full handshake, and only while its certificate is valid.

  SPDX-License-Identifier: Apache-2.0
 */

#include "api.h"
#include "check.h"
#include "clocks.h"
#include "tls.h"

static SSL_CTX *
attached(SSL_CTX *server, uint64_t options)
{
  SSL_CTX_set_options(server, options);
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)server) == TS_SUCCESS);
  return server;
}

struct line {
  SSL_CTX *server;
  SSL_CTX *client;
  SSL_SESSION *newest;
};

static void
begin(struct line *line, SSL_CTX *server, uint64_t options, int version)
{
  line->server = attached(server, options);
  line->client = tls_client(version);
}

/* Visits with the newest session, and keeps that of this visit. */
static int
come_back(struct line *line)
{
  SSL_SESSION *next = NULL;
  int reused        = tls_visit(line->server, line->client, line->newest, TLS_CLEAN, &next);
  SSL_SESSION_free(line->newest);
  line->newest = next;
  return reused;
}

static void
end(struct line *line)
{
  tls_free(line->server, line->client, line->newest);
}

/* In TLS 1.3: replaces the cached session by one without the time of its full handshake, as from another
   library. */
static void
unmark(const struct line *line)
{
  const unsigned char *ticket = NULL;
  size_t len                  = 0;
  TSSslSessionID id;

  SSL_SESSION_get0_ticket(line->newest, &ticket, &len);
  REQUIRE(len <= sizeof(id.bytes));
  id.len = len;
  memcpy(id.bytes, ticket, len);
  SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(&id);
  REQUIRE(session != NULL && SSL_SESSION_set1_ticket_appdata(session, NULL, 0) == 1);
  CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  SSL_SESSION_free(session);
}

/* Each client visits every second. */
static void
check_visits(const char *setting)
{
  enum { LINES = 5, VISITS = 8, LAST = 3, UNMARKED = 4 };
  static const int versions[LINES] = {TLS1_3_VERSION, TLS1_3_VERSION, TLS1_2_VERSION, TLS1_2_VERSION, TLS1_3_VERSION};
  static const uint64_t options[LINES] = {0, SSL_OP_NO_TICKET, 0, SSL_OP_NO_TICKET, SSL_OP_NO_TICKET};
  struct line lines[LINES];
  int last[LINES] = {0};

  REQUIRE(TSSslSessionCacheConfigSet(setting, "4") == TS_SUCCESS);
  memset(lines, 0, sizeof(lines));
  for (int i = 0; i < LINES; i++) {
    begin(&lines[i], tls_server(versions[i]), options[i], versions[i]);
    CHECK_INT(come_back(&lines[i]), 0);
  }
  /* This client first returns in the third second. Its session must not begin a new life then. */
  unmark(&lines[UNMARKED]);
  last[UNMARKED] = 2;
  for (int visit = 1; visit <= VISITS; visit++) {
    wait_for(1);
    for (int i = 0; i < LINES; i++) {
      /* The first full handshake begins a new lineage. */
      if (last[i] == visit - 1 && come_back(&lines[i]) == 1) {
        last[i] = visit;
      }
    }
  }
  for (int i = 0; i < LINES; i++) {
    CHECK_INT(last[i], LAST);
    end(&lines[i]);
  }
  REQUIRE(TSSslSessionCacheConfigSet(setting, strstr(setting, "age") != NULL ? "604800" : "0") == TS_SUCCESS);
}

/* A certificate that expires in the meantime. */
static void
check_certificates_end(void)
{
  enum { LINES = 4 };
  static const int versions[LINES]     = {TLS1_3_VERSION, TLS1_3_VERSION, TLS1_2_VERSION, TLS1_2_VERSION};
  static const uint64_t options[LINES] = {0, SSL_OP_NO_TICKET, 0, SSL_OP_NO_TICKET};
  struct line lines[LINES];

  memset(lines, 0, sizeof(lines));
  for (int i = 0; i < LINES; i++) {
    begin(&lines[i], tls_server_with_client_certificates(versions[i]), options[i], versions[i]);
    tls_give_short_certificate(lines[i].client, 4);
    CHECK_INT(come_back(&lines[i]), 0);
  }
  for (int i = 0; i < LINES; i++) {
    CHECK_INT(come_back(&lines[i]), 1);
  }
  wait_for(5);
  for (int i = 0; i < LINES; i++) {
    CHECK_INT(come_back(&lines[i]), 0);
    end(&lines[i]);
  }
}

int
main(void)
{
  api_open();
  check_visits("tssession.max_resumption_age");
  check_visits("proxy.config.ssl.session_cache.timeout");
  check_certificates_end();
  return check_result();
}
