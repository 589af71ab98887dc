/** @file

  The examples of the manual pages. common/src/generate/man.rs takes the lines between
  "Example: NAME" and "End" for the page of that name; tests/header.rs compiles the file.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>
#include <ts/ts.h>

/* The examples call these. */
struct queue;
void queue_push(struct queue *queue, const TSSslSessionID *id);
void send_to_peers(const TSSslSessionID *id, const char *der, int len);
void use_own_cache(SSL_CTX *ctx);

int
host(SSL_CTX *ctx)
{
  /* Example: tssession */
  if (TSSslSessionCacheAttach((TSSslContext)ctx) != TS_SUCCESS) {
    return -1; /* the reason is in the log */
  }
  /* End */
  return 0;
}

void
end_connection(SSL *ssl)
{
  /* Example: tssession */
  /* At the end of every connection, even of one that failed: without
     a shutdown, OpenSSL removes the session from every cache. */
  SSL_shutdown(ssl);
  ERR_clear_error();
  SSL_free(ssl);
  /* End */
}

int
farm_member(SSL_CTX *ctx)
{
  /* Example: tssession_farm */
  if (TSSslSessionFarmStart("/etc/example/farm.toml") != TS_SUCCESS ||
      TSSslSessionCacheAttach((TSSslContext)ctx) != TS_SUCCESS) {
    return -1; /* the reason is in the log */
  }
  /* End */
  return 0;
}

void
rotate(void)
{
  /* Example: TSSslTicketKeyRotate */
  /* Every twelve hours. */
  if (TSSslTicketKeyRotate() != TS_SUCCESS) {
    syslog(LOG_ERR, "tickets are encrypted with the old key");
  }
  /* End */
}

void
print_settings(void)
{
  /* Example: TSSslSessionCacheConfigText */
  char text[4096];
  int len = sizeof(text);
  TSSslSessionCacheConfigText(text, &len);
  printf("%.*s", len, text);
  /* End */
}

void
rotate_in_farm(void)
{
  /* Example: TSSslSessionFarmRotate */
  if (TSSslSessionFarmRotate() != TS_SUCCESS) {
    puts("the log says which member to ask");
  }
  /* End */
}

void
print_farm(void)
{
  /* Example: TSSslSessionFarmStatusText */
  char line[1024];
  int len = sizeof(line);
  if (TSSslSessionFarmStatusText(line, &len) > 0) {
    printf("%.*s\n", len, line);
  }
  /* End */
}

void
get(const TSSslSessionID *id)
{
  /* Example: TSSslSessionGet */
  SSL_SESSION *session = (SSL_SESSION *)TSSslSessionGet(id);
  if (session != NULL) {
    printf("TLS %04x\n", SSL_SESSION_get_protocol_version(session));
    SSL_SESSION_free(session);
  }
  /* End */
}

void
get_buffer(const TSSslSessionID *id)
{
  /* Example: TSSslSessionGetBuffer */
  char der[16384];
  int len    = sizeof(der);                          /* in: space */
  int needed = TSSslSessionGetBuffer(id, der, &len); /* out: stored */
  if (needed > len) {
    fprintf(stderr, "the session is %d bytes\n", needed);
  } else if (needed > 0) {
    send_to_peers(id, der, len);
  }
  OPENSSL_cleanse(der, sizeof(der)); /* it held the master secret */
  /* End */
}

void
insert(const TSSslSessionID *id, const unsigned char *der, int len)
{
  /* Example: TSSslSessionInsert */
  SSL_SESSION *session = d2i_SSL_SESSION(NULL, &der, len);
  if (session != NULL) {
    if (TSSslSessionInsert(id, (TSSslSession)session) != TS_SUCCESS) {
      fputs("the session was not stored\n", stderr);
    }
    SSL_SESSION_free(session); /* the cache has a copy */
  }
  /* End */
}

void
insert_buffer(const TSSslSessionID *id, const char *der, int len)
{
  /* Example: TSSslSessionInsertBuffer */
  /* der comes from TSSslSessionGetBuffer in another process. */
  if (TSSslSessionInsertBuffer(id, der, len) != TS_SUCCESS) {
    fprintf(stderr, "a session of %d bytes was not stored\n", len);
  }
  /* End */
}

void
remove_session(const TSSslSessionID *id)
{
  /* Example: TSSslSessionRemove */
  if (TSSslSessionRemove(id) != TS_SUCCESS) {
    fputs("the ID is not valid, or the cache is off\n", stderr);
  }
  /* End */
}

void
rotate_keys(void)
{
  /* Example: TSSslTicketKeyUpdate */
  static char keys[2 * 48];
  memcpy(keys + 48, keys, 48); /* the old key still decrypts */
  if (RAND_bytes((unsigned char *)keys, 48) == 1) {
    TSSslTicketKeyUpdate(keys, sizeof(keys));
  }
  /* End */
}

void
load_keys(void)
{
  /* Example: TSSslTicketKeyFileLoad */
  /* A new file was renamed to the configured name. */
  if (TSSslTicketKeyFileLoad(NULL) != TS_SUCCESS) {
    fputs("the old ticket keys stay active\n", stderr);
  }
  /* End */
}

int
attach(SSL_CTX *ctx)
{
  /* Example: TSSslSessionCacheAttach */
  static const unsigned char id[] = "www.example.com";
  if (SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) != 1) {
    return -1;
  }
  if (TSSslSessionCacheAttach((TSSslContext)ctx) != TS_SUCCESS) {
    return -1; /* the reason is in the log */
  }
  /* End */
  return 0;
}

void
detach(SSL_CTX *ctx)
{
  /* Example: TSSslSessionCacheDetach */
  /* No connection uses ctx at this time. */
  if (TSSslSessionCacheDetach((TSSslContext)ctx) == TS_SUCCESS) {
    use_own_cache(ctx);
  }
  /* End */
}

int
config_set(void)
{
  /* Example: TSSslSessionCacheConfigSet */
  const char *name = "proxy.config.ssl.session_cache.size";
  if (TSSslSessionCacheConfigSet(name, "200K") != TS_SUCCESS) {
    return -1; /* the reason is in the log */
  }
  /* End */
  return 0;
}

void
config_load(void)
{
  /* Example: TSSslSessionCacheConfigLoad */
  const char *path = "/etc/example/records.yaml";
  if (TSSslSessionCacheConfigLoad(path) != TS_SUCCESS) {
    fprintf(stderr, "%s: the old settings stay active\n", path);
  }
  /* End */
}

/* Example: TSSslSessionCacheLogSet */
void
log_line(TSCont contp, int level, const char *tag, const char *line)
{
  int is_error = level == TS_SSL_SESSION_CACHE_LOG_ERROR;
  (void)contp;
  syslog(is_error ? LOG_ERR : LOG_WARNING, "%s: %s", tag, line);
}
/* End */

int
log_set(void)
{
  /* Example: TSSslSessionCacheLogSet */
  int level = TS_SSL_SESSION_CACHE_LOG_WARNING;
  if (TSSslSessionCacheLogSet(log_line, NULL, level) != TS_SUCCESS) {
    return -1;
  }
  /* End */
  return 0;
}

void
stat_get(void)
{
  /* Example: TSSslSessionCacheStatGet */
  const char *name = "proxy.process.ssl.ssl_session_cache_hit";
  int64_t hits;
  if (TSSslSessionCacheStatGet(name, &hits) == TS_SUCCESS) {
    printf("%lld hits\n", (long long)hits);
  }
  /* End */
}

void
stats_text(void)
{
  /* Example: TSSslSessionCacheStatsText */
  char text[16384];
  int len    = sizeof(text);
  int needed = TSSslSessionCacheStatsText(text, &len);
  if (needed <= len) {
    fwrite(text, 1, (size_t)len, stdout);
  } else {
    fprintf(stderr, "the counters need %d bytes\n", needed);
  }
  /* End */
}

/* Example: TSSslSessionHookAdd */
int
share(TSCont contp, TSEvent event, void *edata)
{
  const TSSslSessionID *id = edata; /* valid during this call */
  if (event == TS_EVENT_SSL_SESSION_NEW) {
    queue_push((struct queue *)contp, id);
  }
  return 0;
}
/* End */

int
hook_add(struct queue *queue)
{
  /* Example: TSSslSessionHookAdd */
  if (TSSslSessionHookAdd(share, (TSCont)queue) != TS_SUCCESS) {
    return -1;
  }
  /* End */
  return 0;
}

void
hook_remove(struct queue *queue)
{
  /* Example: TSSslSessionHookRemove */
  /* With the same arguments as TSSslSessionHookAdd. Other threads can
     use queue until all connections have ended. */
  if (TSSslSessionHookRemove(share, (TSCont)queue) != TS_SUCCESS) {
    fputs("there was no such hook\n", stderr);
  }
  /* End */
}

int
clear(void)
{
  /* Example: TSSslSessionCacheClear */
  /* After this, no earlier session resumes, by ticket or by ID. */
  unsigned char key[48];
  if (RAND_bytes(key, sizeof(key)) != 1) {
    return -1;
  }
  TSSslTicketKeyUpdate((char *)key, sizeof(key));
  OPENSSL_cleanse(key, sizeof(key));
  TSSslSessionCacheClear();
  /* End */
  return 0;
}

void
version(void)
{
  /* Example: TSSslSessionCacheVersion */
  const char *version = TSSslSessionCacheVersion();
  if (strcmp(version, TSSESSION_VERSION) != 0) {
    printf("built for %s, running %s\n", TSSESSION_VERSION, version);
  }
  /* End */
}

int
farm_start(void)
{
  /* Example: TSSslSessionFarmStart */
  /* After the last fork, and before the first client. */
  if (TSSslSessionFarmStart("/etc/example/farm.toml") != TS_SUCCESS) {
    return -1; /* the reason is in the log */
  }
  /* End */
  return 0;
}

int
farm_prepare(void)
{
  /* Example: TSSslSessionFarmPrepare */
  /* As root, before the first fork; a worker then starts the farm. */
  if (TSSslSessionFarmPrepare("/etc/farm.toml") != TS_SUCCESS) {
    return -1; /* the reason is in the log */
  }
  /* End */
  return 0;
}

void
farm_stat_get(void)
{
  /* Example: TSSslSessionFarmStatGet */
  const char *name = "plugin.tssession_farm.redis_up";
  int64_t up;
  if (TSSslSessionFarmStatGet(name, &up) == TS_SUCCESS && up == 0) {
    fputs("Redis does not answer\n", stderr);
  }
  /* End */
}

void
farm_stats_text(void)
{
  /* Example: TSSslSessionFarmStatsText */
  char text[16384];
  int len    = sizeof(text);
  int needed = TSSslSessionFarmStatsText(text, &len);
  if (needed <= len) {
    fwrite(text, 1, (size_t)len, stdout);
  } else {
    fprintf(stderr, "the counters need %d bytes\n", needed);
  }
  /* End */
}
