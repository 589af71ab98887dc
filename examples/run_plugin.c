/** @file

  Runs plugin_ats8.so, plugin_ats9.so or plugin_ats10.so. It is the host, which loads the plugin as
  ATS does, and the other server, which sends it messages.

    run_plugin PLUGIN.so SESSION.pem

  SESSION.pem is what "openssl s_client -sess_out" writes. Prints each wrong answer; the exit status
  is then 1.

  SPDX-License-Identifier: Apache-2.0
 */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <ts/ssl_session_cache.h>

#include "message.h"

static int expected;
static int wrong;

static void
fail(const char *what)
{
  fprintf(stderr, "run_plugin: %s\n", what);
  exit(1);
}

/* A pipe holds 64 KiB, so all questions are written before the plugin runs, and all answers read
   after it has returned. */
static int questions[2];
static int answers[2];

static void
put(const void *bytes, size_t len)
{
  if (write(questions[1], bytes, len) != (ssize_t)len) {
    fail("cannot write");
  }
}

static void
get(void *bytes, size_t len)
{
  char *next = bytes;

  while (len > 0) {
    ssize_t count = read(answers[0], next, len);
    if (count <= 0) {
      fail("an answer is missing");
    }
    next += count;
    len -= (size_t)count;
  }
}

static void
ask(enum message_kind kind, const TSSslSessionID *id, const void *bytes, int len)
{
  struct message question;

  memset(&question, 0, sizeof(question));
  question.kind = kind;
  question.len  = len;
  question.id   = *id;
  put(&question, sizeof(question));
  put(bytes, (size_t)len);
}

/* Reads the next answer, and checks that it has this kind and these bytes. */
static void
expect(const char *what, enum message_kind kind, const void *bytes, int len)
{
  static char got[MESSAGE_MAX_LEN];
  struct message answer;

  expected++;
  get(&answer, sizeof(answer));
  if (answer.len < 0 || answer.len > MESSAGE_MAX_LEN) {
    fail("the length of an answer is invalid");
  }
  get(got, (size_t)answer.len);
  if (answer.kind != kind || answer.len != len || memcmp(got, bytes, (size_t)len) != 0) {
    fprintf(stderr, "run_plugin: %s: wrong answer, kind %d with %d bytes\n", what, (int)answer.kind, answer.len);
    wrong++;
  }
}

static void
expect_count(const char *name, int64_t count)
{
  int64_t value = -1;

  if (TSSslSessionCacheStatGet(name, &value) != TS_SUCCESS || value != count) {
    fprintf(stderr, "run_plugin: %s is %lld, not %lld\n", name, (long long)value, (long long)count);
    wrong++;
  }
}

struct der {
  unsigned char *bytes;
  int len;
};

static struct der
encode(SSL_SESSION *session)
{
  struct der der = {NULL, 0};

  der.len = i2d_SSL_SESSION(session, &der.bytes);
  if (der.len <= 0) {
    fail("cannot encode the session");
  }
  return der;
}

static SSL_SESSION *
read_session(const char *path)
{
  FILE *file           = fopen(path, "r");
  SSL_SESSION *session = file == NULL ? NULL : PEM_read_SSL_SESSION(file, NULL, NULL, NULL);

  if (session == NULL) {
    fail("cannot read the session");
  }
  fclose(file);
  return session;
}

static void
run(const char *path)
{
  void (*init)(int argc, const char *argv[]);
  char in[32];
  char out[32];
  const char *argv[] = {path, in, out, NULL};
  void *plugin       = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  void *found        = plugin == NULL ? NULL : dlsym(plugin, "TSPluginInit");

  if (found == NULL) {
    fail(dlerror());
  }
  /* C does not allow a cast from the data pointer that dlsym returns to a function pointer. */
  memcpy(&init, &found, sizeof(init));
  snprintf(in, sizeof(in), "/dev/fd/%d", questions[0]);
  snprintf(out, sizeof(out), "/dev/fd/%d", answers[1]);
  init(3, argv);
}

int
main(int argc, char **argv)
{
  static char appdata[2000];
  char keys[2][48];
  TSSslSessionID id      = {32, {0}};
  TSSslSessionID invalid = {33, {0}};

  if (argc != 3) {
    fprintf(stderr, "usage: run_plugin PLUGIN.so SESSION.pem\n");
    return 2;
  }
  if (pipe(questions) != 0 || pipe(answers) != 0 || RAND_bytes((unsigned char *)id.bytes, 32) != 1 ||
      RAND_bytes((unsigned char *)keys, sizeof(keys)) != 1) {
    fail("cannot start");
  }

  /* One session in three states: as read, older, and newer with many more bytes. */
  SSL_SESSION *session = read_session(argv[2]);
  struct der first     = encode(session);
  time_t made          = SESSION_TIME(session);
  SET_SESSION_TIME(session, made - 1);
  struct der older = encode(session);
  SET_SESSION_TIME(session, made + 1);
  SSL_SESSION_set1_ticket_appdata(session, appdata, sizeof(appdata));
  struct der larger = encode(session);
  SSL_SESSION_free(session);

  ask(MESSAGE_WANTED, &id, NULL, 0);
  ask(MESSAGE_KEY, &id, keys[0], sizeof(keys[0]));
  ask(MESSAGE_SESSION, &id, first.bytes, first.len);
  ask(MESSAGE_WANTED, &id, NULL, 0);
  ask(MESSAGE_SESSION, &id, older.bytes, older.len);
  ask(MESSAGE_SESSION, &id, first.bytes, first.len - 1);
  ask(MESSAGE_SESSION, &invalid, first.bytes, first.len);
  ask(MESSAGE_WANTED, &id, NULL, 0);
  ask(MESSAGE_SESSION, &id, larger.bytes, larger.len);
  ask(MESSAGE_WANTED, &id, NULL, 0);
  ask(MESSAGE_KEY, &id, keys[1], sizeof(keys[1]));
  ask(MESSAGE_KEY, &id, keys[1], sizeof(keys[1]) - 1);
  ask(MESSAGE_REVOKED, &id, NULL, 0);
  ask(MESSAGE_WANTED, &id, NULL, 0);
  ask(MESSAGE_REVOKED, &invalid, NULL, 0);
  close(questions[1]);

  run(argv[1]);
  close(answers[1]);

  expect("a session before there is one", MESSAGE_ABSENT, NULL, 0);
  expect("the first key", MESSAGE_DONE, NULL, 0);
  expect("a new session", MESSAGE_DONE, NULL, 0);
  expect("that session", MESSAGE_SESSION, first.bytes, first.len);
  expect("an older session", MESSAGE_REFUSED, NULL, 0);
  expect("half a session", MESSAGE_REFUSED, NULL, 0);
  expect("a session under an invalid ID", MESSAGE_REFUSED, NULL, 0);
  expect("the session after the refused ones", MESSAGE_SESSION, first.bytes, first.len);
  expect("a newer, larger session", MESSAGE_DONE, NULL, 0);
  expect("the larger session", MESSAGE_SESSION, larger.bytes, larger.len);
  expect("the second key", MESSAGE_DONE, NULL, 0);
  expect("a short key", MESSAGE_REFUSED, NULL, 0);
  expect("to remove the session", MESSAGE_DONE, NULL, 0);
  expect("the session after that", MESSAGE_ABSENT, NULL, 0);
  expect("to remove an invalid ID", MESSAGE_REFUSED, NULL, 0);

  /* The plugin and this program share one library. */
  expect_count("tssession.session_cache.entries", 0);
  expect_count("tssession.session_cache.removed", 1);
  expect_count("tssession.session_cache.replaced", 1);
  expect_count("proxy.process.ssl.ssl_session_cache_new_session", 2);
  expect_count("proxy.process.ssl.total_ticket_keys_renewed", 2);

  OPENSSL_clear_free(first.bytes, (size_t)first.len);
  OPENSSL_clear_free(older.bytes, (size_t)older.len);
  OPENSSL_clear_free(larger.bytes, (size_t)larger.len);
  if (wrong == 0) {
    printf("%d answers, all correct\n", expected);
  }
  return wrong != 0;
}
