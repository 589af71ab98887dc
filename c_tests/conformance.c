/** @file

  Shows what the five functions do, one line for each case. This file is built for this library and for
  ATS 9, and make compare-ats compares the lines:

    conformance OUT        linked with -ltssession
    conformance.so OUT     with ATS_PLUGIN: a plugin, for tools/ats.sh

  Appends "ROW: RESULT" for each row to OUT. Each row runs in a separate process: the original crashes in
  some rows, and that is a result too. Sizes are described by their relation, not by numbers.

  Both sides read PROXY_CONFIG_SSL_SESSION_CACHE. If it is 0, only the rows for a cache that is off run.

  SPDX-License-Identifier: Apache-2.0
 */

#define TS_SSL_SESSION_API 9

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <ts/ts.h>

#include "check.h"
#include "tls.h"

#define CANARY 0xa5
#define KEY 48
/* Longer than any row takes. */
#define PATIENCE 20

/* The ID that most rows use. */
static const TSSslSessionID id = {.len = 32, .bytes = "0123456789abcdef0123456789abcde"};

/* The ends of two memory pages, for buffers and for IDs. What follows them cannot be read or written. */
static size_t page_size;
static char *buffer_end;
static char *id_end;

/* ---- A row, and its result ---- */

#define LINES 1000

/* The index is the line in which the row begins. Rows whose names begin with "cache_off_" run with the
   cache off, the others with the cache on. */
static struct row {
  const char *name;
  void (*body)(void);
  pid_t pid;
  int result;
} rows[LINES];

#define ROW(called)                                                                                                    \
  static void called(void);                                                                                            \
  __attribute__((constructor)) static void called##_is_a_row(void)                                                     \
  {                                                                                                                    \
    rows[__LINE__].name = #called;                                                                                     \
    rows[__LINE__].body = called;                                                                                      \
  }                                                                                                                    \
  static void called(void)

/* A row of one line. */
#define SHORT_ROW(called, ...)                                                                                         \
  ROW(called)                                                                                                          \
  {                                                                                                                    \
    __VA_ARGS__;                                                                                                       \
  }

/* The row's process writes its result to this descriptor. */
static int result = -1;

static void
say(const char *format, ...)
{
  static int said;
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  dprintf(result, "%s%s", said++ > 0 ? "; " : "", text);
}

static void
say_code(TSReturnCode code)
{
  say("%s", code == TS_SUCCESS ? "TS_SUCCESS" : code == TS_ERROR ? "TS_ERROR" : "neither code");
}

/* ---- The sessions that the rows name ---- */

struct named_session {
  const char *name;
  SSL_SESSION *session;
  unsigned char *der;
  int len;
};

static struct named_session sessions[8];
static int session_count;

/* Two small ones, one with a client certificate, one of nearly 16 KiB, and a larger one. */
static SSL_SESSION *first, *second, *certified, *large, *larger;

static SSL_SESSION *
name_session(const char *name, SSL_SESSION *session)
{
  struct named_session *named = &sessions[session_count++];
  named->name                 = name;
  named->session              = session;
  named->der                  = tls_der(session, &named->len);
  return session;
}

static const char *
name_of_der(const unsigned char *der, int len)
{
  for (int i = 0; i < session_count; i++) {
    if (len == sessions[i].len && memcmp(der, sessions[i].der, (size_t)len) == 0) {
      return sessions[i].name;
    }
  }
  return "something else";
}

static const char *
name_of(SSL_SESSION *session)
{
  if (session == NULL) {
    return "NULL";
  }
  int len            = 0;
  unsigned char *der = tls_der(session, &len);
  const char *name   = name_of_der(der, len);
  OPENSSL_free(der);
  return name;
}

/* A row may end with what is cached. */
static void
say_cached(const TSSslSessionID *under)
{
  static char buffer[1 << 16];
  int len    = sizeof(buffer);
  int needed = TSSslSessionGetBuffer(under, buffer, &len);
  say("cached: %s", needed == 0 ? "nothing" : name_of_der((unsigned char *)buffer, len));
}

static TSReturnCode
insert(const TSSslSessionID *under, SSL_SESSION *session)
{
  return TSSslSessionInsert(under, (TSSslSession)session, NULL);
}

static SSL_SESSION *
get(const TSSslSessionID *under)
{
  return (SSL_SESSION *)TSSslSessionGet(under);
}

/* OpenSSL frees the ex data of a session with it: this shows whether the session was freed. */
static void *watched;
static int watched_is_freed;

static void
note_freed(void *parent, void *data, CRYPTO_EX_DATA *all, int index, long number, void *pointer)
{
  (void)data, (void)all, (void)index, (void)number, (void)pointer;
  watched_is_freed |= parent == watched;
}

/* Frees a reference. Returns whether it was the last. */
static int
free_was_last(SSL_SESSION *session)
{
  watched          = session;
  watched_is_freed = 0;
  SSL_SESSION_free(session);
  return watched_is_freed;
}

/* Returns a session that lives for 2 seconds or a little less. */
static SSL_SESSION *
expiring_session(void)
{
  SSL_SESSION *session = SSL_SESSION_dup(first);
  SSL_SESSION_set_timeout(session, 100);
  tls_set_time(session, (long)time(NULL) - 98);
  return name_session("the expiring session", session);
}

static SSL_SESSION *
expired_session(void)
{
  SSL_SESSION *session = SSL_SESSION_dup(first);
  SSL_SESSION_set_timeout(session, 100);
  tls_set_time(session, (long)time(NULL) - 1000);
  return name_session("the expired session", session);
}

/* Returns an ID with the length `len`, of which only `readable` bytes can be read. */
static const TSSslSessionID *
id_at_page_end(size_t len, size_t readable)
{
  char *start = id_end - offsetof(TSSslSessionID, bytes) - readable;
  memcpy(start, &len, sizeof(len));
  memcpy(start + offsetof(TSSslSessionID, bytes), id.bytes, readable);
  return (const TSSslSessionID *)(const void *)start;
}

#define EMPTY_ID id_at_page_end(0, 32)
#define LONG_ID id_at_page_end(33, 32)
#define ENDLESS_ID id_at_page_end((size_t)1 << 40, 32)

/* ---- Types ---- */

SHORT_ROW(types,
          say("TSSslSessionID has %zu bytes, its ID at %zu", sizeof(TSSslSessionID), offsetof(TSSslSessionID, bytes)),
          say("at most %d", TS_SSL_MAX_SSL_SESSION_ID_LENGTH), say("TS_ERROR %d, TS_SUCCESS %d", TS_ERROR, TS_SUCCESS),
          say("events %d %d %d", TS_EVENT_SSL_SESSION_GET, TS_EVENT_SSL_SESSION_NEW, TS_EVENT_SSL_SESSION_REMOVE))

/* ---- TSSslSessionGet ---- */

ROW(get_present)
{
  insert(&id, first);
  SSL_SESSION *got = get(&id);
  say("%s", name_of(got));
  say("%s object", got == first ? "the same" : "another");
  say("%s", free_was_last(got) ? "with one reference, the caller's" : "with more references");
  say_cached(&id);
}

ROW(get_then_change)
{
  insert(&id, first);
  SSL_SESSION *got = get(&id);
  SSL_SESSION_set_timeout(got, 12345);
  SSL_SESSION_set1_id(got, (const unsigned char *)"other", 5);
  SSL_SESSION *again = get(&id);
  say("%s", name_of(again));
  SSL_SESSION_free(got);
  say("%s", name_of(again));
}

ROW(get_outlives_entry)
{
  insert(&id, first);
  SSL_SESSION *got = get(&id);
  TSSslSessionRemove(&id);
  say("%s", name_of(got));
}

SHORT_ROW(get_client_certificate, insert(&id, certified), say("%s", name_of(get(&id))))
SHORT_ROW(get_absent, say("%s", name_of(get(&id))))
SHORT_ROW(get_removed, insert(&id, first), TSSslSessionRemove(&id), say("%s", name_of(get(&id))))
SHORT_ROW(get_expired, insert(&id, expiring_session()), say("%s", name_of(get(&id))), sleep(3),
          say("3 seconds later %s", name_of(get(&id))))
SHORT_ROW(get_id_null, say("%s", name_of(get(NULL))))
SHORT_ROW(get_id_empty, say("%s", name_of(get(EMPTY_ID))))
SHORT_ROW(get_id_of_33, say("%s", name_of(get(LONG_ID))))
SHORT_ROW(get_id_endless, say("%s", name_of(get(ENDLESS_ID))))

/* ---- TSSslSessionGetBuffer ---- */

static const char *
name_of_size(int size, int space)
{
  return size == 0                 ? "0"
         : size == sessions[0].len ? "the size needed"
         : size == space           ? "the space given"
                                   : "another number";
}

static int
all_canary(const char *from, const char *to)
{
  while (from < to && (unsigned char)*from == CANARY) {
    from++;
  }
  return from == to;
}

static const char *
what_is_in(const char *buffer, int stored)
{
  if (all_canary(buffer_end - page_size, buffer_end)) {
    return "untouched";
  }
  if (stored < 0 || stored > sessions[0].len || stored > buffer_end - buffer ||
      memcmp(buffer, sessions[0].der, (size_t)stored) != 0 || !all_canary(buffer_end - page_size, buffer) ||
      !all_canary(buffer + stored, buffer_end)) {
    return "something else";
  }
  return stored == sessions[0].len ? "the whole DER and not a byte more" : "its first bytes and not a byte more";
}

/* Asks for the first session, if it is cached. The buffer ends at the end of a page. */
static void
ask(const TSSslSessionID *under, int space)
{
  char *buffer = buffer_end - (space > 0 ? space : 0);
  int len      = space;
  memset(buffer_end - page_size, CANARY, page_size);
  int returned = TSSslSessionGetBuffer(under, buffer, &len);
  say("returns %s", name_of_size(returned, space));
  say("*len_ptr: %s", name_of_size(len, space));
  say("buffer: %s", what_is_in(buffer, len));
}

static void
ask_without_buffer(const TSSslSessionID *under, int space)
{
  int len      = space;
  int returned = TSSslSessionGetBuffer(under, NULL, &len);
  say("returns %s", name_of_size(returned, space));
  say("*len_ptr: %s", name_of_size(len, space));
}

SHORT_ROW(get_buffer_exact_space, insert(&id, first), ask(&id, sessions[0].len))
SHORT_ROW(get_buffer_more_space, insert(&id, first), ask(&id, sessions[0].len + 100))
SHORT_ROW(get_buffer_less_space, insert(&id, first), ask(&id, sessions[0].len - 1))
SHORT_ROW(get_buffer_one_byte, insert(&id, first), ask(&id, 1))
SHORT_ROW(get_buffer_no_space, insert(&id, first), ask(&id, 0))
SHORT_ROW(get_buffer_negative_space, insert(&id, first), ask(&id, -1))
SHORT_ROW(get_buffer_most_negative_space, insert(&id, first), ask(&id, INT_MIN))
SHORT_ROW(get_buffer_null_buffer, insert(&id, first), ask_without_buffer(&id, 4000))
SHORT_ROW(get_buffer_null_buffer_no_space, insert(&id, first), ask_without_buffer(&id, 0))

ROW(get_buffer_null_len)
{
  insert(&id, first);
  memset(buffer_end - page_size, CANARY, page_size);
  say("returns %s", name_of_size(TSSslSessionGetBuffer(&id, buffer_end - 64, NULL), 64));
  say("buffer: %s", what_is_in(buffer_end - 64, 0));
}

SHORT_ROW(get_buffer_client_certificate, insert(&id, certified), say_cached(&id))

ROW(get_buffer_reads_back)
{
  static char buffer[1 << 16];
  int len = sizeof(buffer);
  insert(&id, first);
  int returned               = TSSslSessionGetBuffer(&id, buffer, &len);
  const unsigned char *start = (const unsigned char *)buffer;
  SSL_SESSION *copy          = d2i_SSL_SESSION(NULL, &start, len);
  say("%s", name_of(copy));
  say("%s", start == (const unsigned char *)buffer + returned ? "all bytes used" : "bytes left over");
}

SHORT_ROW(get_buffer_absent, ask(&id, 64))
SHORT_ROW(get_buffer_absent_null_buffer, ask_without_buffer(&id, 64))
SHORT_ROW(get_buffer_removed, insert(&id, first), TSSslSessionRemove(&id), ask(&id, 64))
SHORT_ROW(get_buffer_expired, insert(&id, expiring_session()), say_cached(&id), sleep(3), say("3 seconds later"),
          say_cached(&id))
SHORT_ROW(get_buffer_id_null, ask(NULL, 64))
SHORT_ROW(get_buffer_id_empty, ask(EMPTY_ID, 64))
SHORT_ROW(get_buffer_id_of_33, ask(LONG_ID, 64))
SHORT_ROW(get_buffer_id_endless, ask(ENDLESS_ID, 64))

/* ---- TSSslSessionInsert ---- */

SHORT_ROW(insert_new, say_code(insert(&id, first)), say_cached(&id))
SHORT_ROW(insert_replaces, insert(&id, first), say_code(insert(&id, second)), say_cached(&id))
SHORT_ROW(insert_same_again, insert(&id, first), say_code(insert(&id, first)), say_cached(&id))
SHORT_ROW(insert_after_remove, insert(&id, first), TSSslSessionRemove(&id), say_code(insert(&id, second)),
          say_cached(&id))

ROW(insert_leaves_reference)
{
  SSL_SESSION *own = SSL_SESSION_dup(first);
  say_code(insert(&id, own));
  say("the caller's free is %s", free_was_last(own) ? "the last" : "not the last");
  say_cached(&id);
}

ROW(insert_copies)
{
  TSSslSessionID own_id = id;
  SSL_SESSION *own      = SSL_SESSION_dup(first);
  insert(&own_id, own);
  memset(&own_id, 0xff, sizeof(own_id));
  SSL_SESSION_set_timeout(own, 12345);
  say_cached(&id);
}

ROW(insert_key_is_argument)
{
  unsigned len       = 0;
  TSSslSessionID own = id;
  memcpy(own.bytes, SSL_SESSION_get_id(first, &len), sizeof(own.bytes));
  insert(&id, first);
  say_cached(&id);
  say("under its own ID");
  say_cached(&own);
}

ROW(insert_id_of_1)
{
  const TSSslSessionID one = {.len = 1, .bytes = "x"};
  say_code(insert(&one, first));
  say_cached(&one);
}

ROW(insert_id_prefix)
{
  TSSslSessionID prefix = id;
  prefix.len            = 31;
  insert(&id, first);
  insert(&prefix, second);
  say_cached(&id);
  say("under the first 31 bytes");
  say_cached(&prefix);
}

ROW(insert_id_nothing_behind)
{
  TSSslSessionID whole = id;
  whole.len            = 8;
  memset(whole.bytes + 8, 0xff, 24);
  say_code(insert(id_at_page_end(8, 8), first));
  say_cached(&whole);
}

SHORT_ROW(insert_client_certificate, say_code(insert(&id, certified)), say_cached(&id))
SHORT_ROW(insert_15_kib, say_code(insert(&id, large)), say_cached(&id))
SHORT_ROW(insert_over_16_kib, say_code(insert(&id, larger)), say_cached(&id))
SHORT_ROW(insert_over_16_kib_known_id, insert(&id, first), say_code(insert(&id, larger)), say_cached(&id))

/* Inserts a bad session, then a good one with the same ID: a bad entry could hinder the good one. */
static void
insert_bad_session(SSL_SESSION *session)
{
  say_code(insert(&id, session));
  say_cached(&id);
  say("Get: %s", name_of(get(&id)));
  say("then a good one");
  say_code(insert(&id, first));
  say_cached(&id);
}

SHORT_ROW(insert_null, insert_bad_session(NULL))
SHORT_ROW(insert_null_known_id, insert(&id, first), say_code(insert(&id, NULL)), say_cached(&id))
SHORT_ROW(insert_without_cipher, insert_bad_session(SSL_SESSION_new()))
SHORT_ROW(insert_without_cipher_known_id, insert(&id, first), say_code(insert(&id, SSL_SESSION_new())), say_cached(&id))

/* OpenSSL encodes this session, but cannot decode it. */
ROW(insert_without_version)
{
  SSL_SESSION *session = SSL_SESSION_dup(first);
  SSL_SESSION_set_protocol_version(session, 0);
  name_session("the session that OpenSSL cannot read", session);
  insert_bad_session(session);
}

SHORT_ROW(insert_expired, say_code(insert(&id, expired_session())), say_cached(&id), say("Get: %s", name_of(get(&id))))
SHORT_ROW(insert_expired_known_id, insert(&id, first), say_code(insert(&id, expired_session())), say_cached(&id))
SHORT_ROW(insert_id_null, say_code(insert(NULL, first)))
SHORT_ROW(insert_id_empty, say_code(insert(EMPTY_ID, first)), say_cached(EMPTY_ID))
SHORT_ROW(insert_id_of_33, say_code(insert(LONG_ID, first)))
SHORT_ROW(insert_id_endless, say_code(insert(ENDLESS_ID, first)))

/* ---- TSSslSessionRemove ---- */

SHORT_ROW(remove_present, insert(&id, first), say_code(TSSslSessionRemove(&id)), say_cached(&id))
SHORT_ROW(remove_absent, say_code(TSSslSessionRemove(&id)))

ROW(remove_other_stays)
{
  TSSslSessionID prefix = id;
  prefix.len            = 31;
  insert(&id, first);
  say_code(TSSslSessionRemove(&prefix));
  say_cached(&id);
}

SHORT_ROW(remove_id_null, say_code(TSSslSessionRemove(NULL)))
SHORT_ROW(remove_id_empty, say_code(TSSslSessionRemove(EMPTY_ID)))
SHORT_ROW(remove_id_of_33, say_code(TSSslSessionRemove(LONG_ID)))
SHORT_ROW(remove_id_endless, say_code(TSSslSessionRemove(ENDLESS_ID)))

/* ---- TSSslTicketKeyUpdate: its result; ticket_keys.c tests which keys are active ---- */

static char keys[3 * KEY];

/* Fills a slot with a key: one letter for its name, one for its secrets. */
static void
put_key(int slot, char name, char secret)
{
  memset(keys + slot * KEY, name, 16);
  memset(keys + slot * KEY + 16, secret, 32);
}

SHORT_ROW(keys_one, put_key(0, 'a', 'b'), say_code(TSSslTicketKeyUpdate(keys, KEY)))
SHORT_ROW(keys_three, put_key(0, 'a', 'b'), put_key(1, 'c', 'd'), put_key(2, 'e', 'f'),
          say_code(TSSslTicketKeyUpdate(keys, 3 * KEY)))
SHORT_ROW(keys_and_tail, put_key(0, 'a', 'b'), put_key(1, 'c', 'd'), say_code(TSSslTicketKeyUpdate(keys, 2 * KEY - 1)))
SHORT_ROW(keys_null, say_code(TSSslTicketKeyUpdate(NULL, KEY)))
SHORT_ROW(keys_null_no_length, say_code(TSSslTicketKeyUpdate(NULL, 0)))
SHORT_ROW(keys_no_length, put_key(0, 'a', 'b'), say_code(TSSslTicketKeyUpdate(keys, 0)))
SHORT_ROW(keys_negative_length, put_key(0, 'a', 'b'), say_code(TSSslTicketKeyUpdate(keys, -KEY)))
SHORT_ROW(keys_too_short, put_key(0, 'a', 'b'), say_code(TSSslTicketKeyUpdate(keys, KEY - 1)))
SHORT_ROW(keys_first_all_zero, say_code(TSSslTicketKeyUpdate(keys, KEY)))
SHORT_ROW(keys_first_secrets_zero, put_key(0, 'a', 0), say_code(TSSslTicketKeyUpdate(keys, KEY)))
SHORT_ROW(keys_later_all_zero, put_key(0, 'a', 'b'), say_code(TSSslTicketKeyUpdate(keys, 2 * KEY)))
SHORT_ROW(keys_of_one_name, put_key(0, 'a', 'b'), put_key(1, 'a', 'c'), say_code(TSSslTicketKeyUpdate(keys, 2 * KEY)))
SHORT_ROW(keys_alike, put_key(0, 'a', 'b'), put_key(1, 'a', 'b'), say_code(TSSslTicketKeyUpdate(keys, 2 * KEY)))

/* ---- With the cache off ---- */

SHORT_ROW(cache_off_get, insert(&id, first), say("%s", name_of(get(&id))))
SHORT_ROW(cache_off_get_buffer, insert(&id, first), ask(&id, 64))
SHORT_ROW(cache_off_get_buffer_null_buffer, insert(&id, first), ask_without_buffer(&id, 64))
SHORT_ROW(cache_off_insert, say_code(insert(&id, first)))
SHORT_ROW(cache_off_remove, say_code(TSSslSessionRemove(&id)))

/* Ticket keys work without the cache. */
SHORT_ROW(cache_off_keys, keys_one())

/* ---- Running the rows ---- */

/* In the row's process signals have their default actions, and leave no core file. */
static void
die_of_signals(void)
{
  const struct rlimit none = {0, 0};
  sigset_t all;
  setrlimit(RLIMIT_CORE, &none);
  for (int number = 1; number < NSIG; number++) {
    signal(number, SIG_DFL);
  }
  sigfillset(&all);
  sigprocmask(SIG_UNBLOCK, &all, NULL);
}

static void
start(struct row *row)
{
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  row->pid    = fork();
  row->result = ends[0];
  REQUIRE(row->pid >= 0);
  if (row->pid == 0) {
    die_of_signals();
    alarm(PATIENCE);
    result = ends[1];
    row->body();
    _exit(0);
  }
  close(ends[1]);
}

static void
finish(FILE *out, const struct row *row)
{
  char text[4096];
  size_t len = 0;
  ssize_t n;
  int status = 0;
  while ((n = read(row->result, text + len, sizeof(text) - len)) > 0 || (n < 0 && errno == EINTR)) {
    len += n > 0 ? (size_t)n : 0;
  }
  close(row->result);
  while (waitpid(row->pid, &status, 0) < 0) {
    REQUIRE(errno == EINTR);
  }
  fprintf(out, "%s: %.*s", row->name, (int)len, text);
  if (WIFSIGNALED(status)) {
    fprintf(out, "%s%s the process (%s)", len > 0 ? "; " : "", WTERMSIG(status) == SIGALRM ? "hangs" : "ends",
            strsignal(WTERMSIG(status)));
  } else if (WEXITSTATUS(status) != 0) {
    fprintf(out, "%sends the process with status %d", len > 0 ? "; " : "", WEXITSTATUS(status));
  }
  fputc('\n', out);
}

/* Returns the end of a page that an unreadable page follows. */
static char *
guarded_page(void)
{
  char *start = mmap(NULL, 2 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(start != MAP_FAILED && mprotect(start + page_size, page_size, PROT_NONE) == 0);
  return start + page_size;
}

static void
run_rows(const char *path)
{
  const char *cache = getenv("PROXY_CONFIG_SSL_SESSION_CACHE");
  int is_off        = cache != NULL && strcmp(cache, "0") == 0;
  FILE *out         = fopen(path, "a");
  REQUIRE(out != NULL);
  page_size  = (size_t)sysconf(_SC_PAGESIZE);
  buffer_end = guarded_page();
  id_end     = guarded_page();
  REQUIRE(SSL_SESSION_get_ex_new_index(0, NULL, NULL, NULL, note_freed) >= 0);
  first     = name_session("the first session", tls_session(0));
  second    = name_session("the second session", tls_session(0));
  certified = name_session("the session with a client certificate", tls_session(1));
  large     = name_session("the session of 15 KiB", tls_session(15500));
  larger    = name_session("the session of over 16 KiB", tls_session(16500));

  /* All at once, because some rows sleep. */
  for (size_t i = 0; i < LINES; i++) {
    if (rows[i].body != NULL && (strncmp(rows[i].name, "cache_off_", 10) == 0) == is_off) {
      start(&rows[i]);
    }
  }
  for (size_t i = 0; i < LINES; i++) {
    if (rows[i].pid > 0) {
      finish(out, &rows[i]);
    }
  }
  REQUIRE(fclose(out) == 0);
}

#ifdef ATS_PLUGIN

static char out_path[4096];

/* The session functions of ATS work only on its own threads. */
static void *
run_and_end(void *unused)
{
  (void)unused;
  run_rows(out_path);
  _exit(42);
}

static int
ports_are_ready(TSCont continuation, TSEvent event, void *data)
{
  (void)continuation, (void)event, (void)data;
  TSThreadCreate(run_and_end, NULL);
  return 0;
}

void
TSPluginInit(int argc, const char *argv[])
{
  TSPluginRegistrationInfo info = {.plugin_name = "conformance", .vendor_name = "tssession", .support_email = "-"};
  REQUIRE(TSPluginRegister(&info) == TS_SUCCESS && argc == 2);
  snprintf(out_path, sizeof(out_path), "%s", argv[1]);
  TSLifecycleHookAdd(TS_LIFECYCLE_PORTS_READY_HOOK, TSContCreate(ports_are_ready, NULL));
}

#else

int
main(int argc, char **argv)
{
  REQUIRE(argc == 2);
  run_rows(argv[1]);
  return 0;
}

#endif
