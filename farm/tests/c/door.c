/** @file

  A host that is linked with libtssession and the farm, without plugins:

    door FILE WRONG SILENT

  FILE has valid settings, WRONG has a setting that does not exist, and SILENT names a Redis that
  does not answer.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>

#include "check.h"
#include "tls.h"

#define PUBLISHED "plugin.tssession_farm.published"

/* The farm finds these two before those of libc and of libtssession. */
static int threads_until_failure = -1;
static int hooks_fail            = 0;

static void
find_next(const char *name, void *function)
{
  void *found = dlsym(RTLD_NEXT, name);
  REQUIRE(found != NULL);
  memcpy(function, &found, sizeof(found));
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*body)(void *), void *data)
{
  int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  find_next("pthread_create", &create);
  return threads_until_failure-- == 0 ? EAGAIN : create(thread, attributes, body, data);
}

TSReturnCode
TSSslSessionHookAdd(TSEventFunc func, TSCont contp)
{
  TSReturnCode (*add)(TSEventFunc, TSCont);
  find_next("TSSslSessionHookAdd", &add);
  return hooks_fail ? TS_ERROR : add(func, contp);
}

static int
count_threads(void)
{
  int count  = 0;
  DIR *tasks = opendir("/proc/self/task");
  REQUIRE(tasks != NULL);
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
    count += entry->d_name[0] != '.';
  }
  closedir(tasks);
  return count;
}

/* A start that fails leaves no threads. */
static void
failed_start(const char *file)
{
  CHECK_INT(TSSslSessionFarmStart(file), TS_ERROR);
  for (int i = 0; i < 3000 && count_threads() > 1; i++) {
    usleep(1000);
  }
  CHECK_INT(count_threads(), 1);
}

static long long
counter(const char *name)
{
  int64_t value = -1;
  CHECK_INT(TSSslSessionFarmStatGet(name, &value), TS_SUCCESS);
  return (long long)value;
}

static void
before_the_start(const char *wrong)
{
  char byte;
  int len       = 1;
  int64_t value = -7;
  CHECK_INT(TSSslSessionFarmStatsText(&byte, &len), 0);
  CHECK_INT(TSSslSessionFarmStatusText(&byte, &len), 0);
  CHECK_INT(TSSslSessionFarmRotate(), TS_ERROR);
  CHECK_INT(len, 0);
  CHECK_INT(TSSslSessionFarmStatGet(PUBLISHED, &value), TS_ERROR);
  CHECK_INT(value, -7);
  CHECK_INT(TSSslSessionFarmStart(NULL), TS_ERROR);
  CHECK_INT(TSSslSessionFarmStart("/no/such/file.toml"), TS_ERROR);
  CHECK_INT(TSSslSessionFarmStart(wrong), TS_ERROR);
}

static void
starts_that_fail(const char *file)
{
  /* The keeper, the publisher, upkeep, or a reader cannot be started. */
  for (int thread = 0; thread < 4; thread++) {
    threads_until_failure = thread;
    failed_start(file);
  }
  threads_until_failure = -1;
  hooks_fail            = 1;
  failed_start(file);
  hooks_fail = 0;
}

static void *
start_in_thread(void *file)
{
  TSSslSessionFarmStart(file);
  return NULL;
}

/* A child can start the farm even if it was forked while another thread was starting it. */
static void
a_fork_during_the_start(const char *file, char *silent)
{
  pthread_t thread;
  int status;
  REQUIRE(pthread_create(&thread, NULL, start_in_thread, silent) == 0);
  while (count_threads() < 3) {
    usleep(1000);
  }
  CHECK_INT(TSSslSessionFarmStart(file), TS_ERROR);
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    CHECK_INT(TSSslSessionFarmStart(file), TS_SUCCESS);
    CHECK_INT(TSSslSessionFarmStart(file), TS_ERROR);
    _exit(check_result());
  }
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_INT(status, 0);
  /* The parent is still starting. */
  CHECK_INT(TSSslSessionFarmStart(file), TS_ERROR);
}

/* A child starts with files that its parent could still read. */
static void
a_prepared_start(const char *file, const char *wrong)
{
  char link_name[4096];
  REQUIRE((size_t)snprintf(link_name, sizeof(link_name), "%s.linked", file) < sizeof(link_name));
  unlink(link_name);
  REQUIRE(link(file, link_name) == 0);
  CHECK_INT(TSSslSessionFarmPrepare(link_name), TS_SUCCESS);
  CHECK_INT(count_threads(), 1);
  unlink(link_name);
  CHECK_INT(TSSslSessionFarmPrepare(NULL), TS_ERROR);
  CHECK_INT(TSSslSessionFarmPrepare(link_name), TS_ERROR);
  CHECK_INT(TSSslSessionFarmStart(wrong), TS_ERROR);
  for (int children = 0; children < 2; children++) {
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      CHECK_INT(TSSslSessionFarmStart(link_name), TS_SUCCESS);
      CHECK_INT(TSSslSessionFarmStart(link_name), TS_ERROR);
      _exit(check_result());
    }
    check_child(child);
  }
}

/* Makes a full handshake, and waits until its session is published. */
static void
visit(SSL_CTX *server, SSL_CTX *client)
{
  long long before = counter(PUBLISHED);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  for (int i = 0; i < 3000 && counter(PUBLISHED) == before; i++) {
    usleep(10000);
  }
}

/* A child is not a member until it starts the farm itself. */
static void
forked_child(const char *file, SSL_CTX *server, SSL_CTX *client)
{
  char byte;
  int len        = 1;
  int64_t value  = -7;
  check_failures = 0;
  CHECK_INT(TSSslSessionFarmStatGet(PUBLISHED, &value), TS_ERROR);
  CHECK_INT(value, -7);
  CHECK_INT(TSSslSessionFarmStatsText(&byte, &len), 0);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, NULL), 0);
  REQUIRE(TSSslSessionFarmStart(file) == TS_SUCCESS);
  CHECK_INT(TSSslSessionFarmStart(file), TS_ERROR);
  visit(server, client);
  usleep(100000);
  CHECK_INT(counter(PUBLISHED), 1);
}

static void
a_fork(const char *file, SSL_CTX *server, SSL_CTX *client)
{
  int status;
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    forked_child(file, server, client);
    _exit(check_result());
  }
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_INT(status, 0);
  long long before = counter(PUBLISHED);
  visit(server, client);
  CHECK_INT(counter(PUBLISHED), before + 1);
}

/* Sizes are as in TSSslSessionCacheStatsText. */
static void
the_text(void)
{
  char text[65536];
  char part[64];
  int len    = 0;
  int needed = TSSslSessionFarmStatsText(NULL, &len);
  CHECK(needed > 0 && needed < (int)sizeof(text));
  CHECK_INT(len, 0);
  len = -5;
  CHECK_INT(TSSslSessionFarmStatsText(text, &len), needed);
  CHECK_INT(len, 0);
  CHECK_INT(TSSslSessionFarmStatsText(text, NULL), 0);

  memset(part, '#', sizeof(part));
  len = 10;
  CHECK_INT(TSSslSessionFarmStatsText(part, &len), needed);
  CHECK_INT(len, 10);
  CHECK(part[10] == '#');

  /* The text may have grown since, because numbers have more digits. */
  len    = (int)sizeof(text) - 1;
  needed = TSSslSessionFarmStatsText(text, &len);
  CHECK_INT(len, needed);
  text[len] = 0;
  CHECK(memcmp(text, part, 10) == 0);
  CHECK(strstr(text, "\n# TYPE plugin_tssession_farm_refused counter\n") != NULL);
  CHECK(strstr(text, "\nplugin_tssession_farm_refused{cause=\"forged\"} 0\n") != NULL);
}

static long long
ticket_keys(void)
{
  int64_t value = -1;
  CHECK_INT(TSSslSessionCacheStatGet("tssession.ticket_keys.count", &value), TS_SUCCESS);
  return value;
}

/* The orders of operators: a line that names the leader, and a new ticket key from the leader. */
static void
the_orders(void)
{
  char line[1024] = "";
  char part[8]    = "#######";
  int len         = (int)sizeof(line) - 1;
  int needed      = TSSslSessionFarmStatusText(line, &len);
  /* An earlier child may still have the lease. */
  for (int i = 0; i < 1000 && strstr(line, "this member leads") == NULL; i++) {
    usleep(10000);
    len    = (int)sizeof(line) - 1;
    needed = TSSslSessionFarmStatusText(line, &len);
  }
  CHECK_INT(len, needed);
  CHECK(strstr(line, "farm status: farm test: this member leads (") != NULL);
  CHECK(strstr(line, "; Redis answers; key set ") != NULL && strchr(line, '\n') == NULL);
  len = 4;
  CHECK(TSSslSessionFarmStatusText(part, &len) > 100);
  CHECK(len == 4 && strcmp(part, "farm###") == 0);
  CHECK_INT(TSSslSessionFarmStatusText(line, NULL), 0);

  CHECK_INT(ticket_keys(), 1);
  CHECK_INT(TSSslSessionFarmRotate(), TS_SUCCESS);
  for (int i = 0; i < 1000 && ticket_keys() < 2; i++) {
    usleep(10000);
  }
  CHECK_INT(ticket_keys(), 2);
  /* The new key does not encrypt yet. Until it does, no other is made. */
  CHECK_INT(TSSslSessionFarmRotate(), TS_SUCCESS);
  usleep(1500000);
  CHECK_INT(ticket_keys(), 2);
}

/* A thread is cancelled while it logs, which is a cancellation point: it ends after the call. */
static void *
cancelled_within(void *done)
{
  errno = EXDEV;
  pthread_cancel(pthread_self());
  CHECK_INT(TSSslSessionFarmStatGet("no.such.counter", NULL), TS_ERROR);
  CHECK_INT(errno, EXDEV);
  *(int *)done = 1;
  pthread_testcancel();
  return NULL;
}

/* errno is unchanged, no call is cancelled halfway, and numbers do not have to be aligned. */
static void
the_boundary(void)
{
  pthread_t thread;
  int done     = 0;
  void *result = NULL;
  REQUIRE(pthread_create(&thread, NULL, cancelled_within, &done) == 0);
  REQUIRE(pthread_join(thread, &result) == 0);
  CHECK_INT(done, 1);
  CHECK(result == PTHREAD_CANCELED);

  char text[65536];
  char bytes[1 + sizeof(int64_t)];
  int len       = 100;
  int64_t value = -7;
  memcpy(bytes + 1, &len, sizeof(len));
  CHECK(TSSslSessionFarmStatsText(text, (int *)(void *)(bytes + 1)) > 100);
  memcpy(&len, bytes + 1, sizeof(len));
  CHECK_INT(len, 100);
  CHECK_INT(TSSslSessionFarmStatGet(PUBLISHED, (int64_t *)(void *)(bytes + 1)), TS_SUCCESS);
  memcpy(&value, bytes + 1, sizeof(value));
  CHECK_INT(value, 0);
}

/* A session with early data is not published, but a later session is. */
static void
early_data_stays(SSL_CTX *server, SSL_CTX *client)
{
  SSL_CTX *early_server = tls_server(TLS1_3_VERSION);
  SSL_CTX *early_client = tls_client(TLS1_3_VERSION);
  SSL_SESSION *session  = NULL;
  long long before      = counter(PUBLISHED);
  SSL_CTX_set_max_early_data(early_server, 1000);
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)early_server) == TS_SUCCESS);
  CHECK_INT(tls_visit(early_server, early_client, NULL, TLS_CLEAN, &session), 0);
  CHECK(SSL_SESSION_get_max_early_data(session) > 0);
  visit(server, client);
  usleep(100000);
  CHECK_INT(counter(PUBLISHED), before + 1);
  tls_free(early_server, early_client, session);
}

/* Log lines do not disturb a pipe without a reader, or a connection, that has the descriptor of stderr. */
static void
the_stderr(void)
{
  int ends[2], before = dup(STDERR_FILENO);

  REQUIRE(before >= 0 && pipe(ends) == 0);
  dup2(ends[1], STDERR_FILENO);
  close(ends[0]);
  close(ends[1]);
  TSReturnCode unread = TSSslSessionFarmStart(NULL);
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  dup2(ends[1], STDERR_FILENO);
  TSReturnCode connected = TSSslSessionFarmStart(NULL);
  char byte;
  ssize_t sent = read(ends[0], &byte, 1);
  dup2(before, STDERR_FILENO);
  close(before);
  close(ends[0]);
  close(ends[1]);
  CHECK_INT(unread, TS_ERROR);
  CHECK_INT(connected, TS_ERROR);
  CHECK_INT(sent, -1);
}

int
main(int argc, char *argv[])
{
  REQUIRE(argc == 4);
  before_the_start(argv[2]);
  the_stderr();
  starts_that_fail(argv[1]);
  a_prepared_start(argv[1], argv[2]);
  /* In a separate process. */
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    a_fork_during_the_start(argv[1], argv[3]);
    _exit(check_result());
  }
  int status;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_INT(status, 0);
  /* After failed starts, a start with valid settings succeeds. */
  REQUIRE(TSSslSessionFarmStart(argv[1]) == TS_SUCCESS);
  CHECK_INT(TSSslSessionFarmStart(argv[1]), TS_ERROR);

  int64_t value = -7;
  CHECK_INT(counter(PUBLISHED), 0);
  CHECK_INT(TSSslSessionFarmStatGet("plugin.tssession_farm.nothing", &value), TS_ERROR);
  CHECK_INT(TSSslSessionFarmStatGet(NULL, &value), TS_ERROR);
  CHECK_INT(TSSslSessionFarmStatGet(PUBLISHED, NULL), TS_ERROR);
  CHECK_INT(value, -7);
  /* All threads read Redis's clock when they begin. Then the number stays the same for ten seconds. */
  for (int i = 0; i < 3000 && counter("plugin.tssession_farm.redis_up") == 0; i++) {
    usleep(10000);
  }
  usleep(300000);
  the_text();
  the_boundary();
  the_orders();

  /* The session of a handshake at an attached context is published. */
  SSL_CTX *server = tls_server(TLS1_2_VERSION);
  SSL_CTX *client = tls_client(TLS1_2_VERSION);
  SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
  REQUIRE(TSSslSessionCacheAttach((TSSslContext)server) == TS_SUCCESS);
  visit(server, client);
  CHECK_INT(counter(PUBLISHED), 1);
  early_data_stays(server, client);
  a_fork(argv[1], server, client);
  CHECK_INT(counter("plugin.tssession_farm.missing"), 0);
  tls_free(server, client, NULL);
  return check_result();
}
