/** @file

  A core dump contains no secrets of cached sessions and no ticket keys. After a normal end, the
  memory of the process contains none either.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "api.h"
#include "check.h"
#include "folder.h"
#include "secrets.h"
#include "tls.h"

/* Numbers of secrets. Number 0 and the first key are not looked for: when a function is called for the
   first time, the loader saves registers, which can contain parts of a secret from this program. */
enum { SESSIONS = 50, TICKET_KEY = 1000, OF_THE_HOST, FIRST_KEY };

/* A secret that the host keeps in its own memory. */
static unsigned char *own;

/* Fills the cache, sets a key, and keeps a secret that nothing hides. */
static void
have_secrets(void)
{
  SSL_SESSION *session     = tls_session(0);
  unsigned char secret[48] = {0};
  for (int number = 0; number < SESSIONS; number++) {
    TSSslSessionID id = api_numbered_id((unsigned long)number);
    secret_bytes(number, secret);
    REQUIRE(SSL_SESSION_set1_master_key(session, secret, sizeof(secret)) == 1);
    CHECK_INT(TSSslSessionInsert(&id, (TSSslSession)session), TS_SUCCESS);
  }
  OPENSSL_cleanse(secret, sizeof(secret));
  SSL_SESSION_free(session);

  for (int number = FIRST_KEY; number >= TICKET_KEY; number -= FIRST_KEY - TICKET_KEY) {
    unsigned char key[48] = "a ticket key's";
    secret_bytes(number, key + 16);
    TSSslTicketKeyUpdate((char *)key, sizeof(key));
    OPENSSL_cleanse(key, sizeof(key));
  }

  own = malloc(SECRET_LEN);
  REQUIRE(own != NULL);
  secret_bytes(OF_THE_HOST, own);

  for (int number = 0; number < SESSIONS; number++) {
    CHECK_INT(secret_in_memory(number), 1);
  }
  CHECK_INT(secret_in_memory(TICKET_KEY), 1);
}

/* Starts a child that stops until its parent ends it in one way or another. */
static pid_t
start(int dumps)
{
  pid_t child = fork();
  REQUIRE(child >= 0);
  if (child > 0) {
    return child;
  }
  have_secrets();
  if (!dumps) {
    REQUIRE(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    raise(SIGSTOP);
    exit(check_result());
  }
  struct rlimit limit;
  REQUIRE(check_result() == 0 && chdir(folder) == 0 && getrlimit(RLIMIT_CORE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max;
  REQUIRE(setrlimit(RLIMIT_CORE, &limit) == 0);
  abort();
}

/* Returns whether the kernel writes core files into the directory of the process. */
static int
has_core_files(void)
{
  char pattern[256] = "";
  struct rlimit limit;
  FILE *file = fopen("/proc/sys/kernel/core_pattern", "r");
  REQUIRE(file != NULL && fgets(pattern, sizeof(pattern), file) != NULL);
  fclose(file);
  REQUIRE(getrlimit(RLIMIT_CORE, &limit) == 0);
  return strcmp(pattern, "core\n") == 0 && limit.rlim_max > 0;
}

static void
check_core_dump(void)
{
  char name[32];
  int status = 0;
  folder_make();
  pid_t child = start(1);
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status) && WCOREDUMP(status));
  snprintf(name, sizeof(name), "core.%d", (int)child);
  if (access(in_folder(name), F_OK) != 0) {
    snprintf(name, sizeof(name), "core");
  }
  int core = open(in_folder(name), O_RDONLY);
  REQUIRE(core >= 0);
  unsigned long len = (unsigned long)lseek(core, 0, SEEK_END);
  CHECK_INT(secret_count(core, 0, len, OF_THE_HOST, 0, SECRET_LEN, NULL), 1);
  int pieces = 0;
  for (int piece = 0; piece < SECRET_LEN; piece += SECRET_PIECE) {
    for (int number = 1; number < SESSIONS; number++) {
      pieces += secret_count(core, 0, len, number, piece, SECRET_PIECE, NULL);
    }
    pieces += secret_count(core, 0, len, TICKET_KEY, piece, SECRET_PIECE, NULL);
  }
  CHECK_INT(pieces, 0);
  close(core);
  const char *const names[] = {name};
  folder_remove(names, 1);
}

/* The library is only unloaded when the process ends. */
static void
check_end_in_order(void)
{
  char process[16];
  int status  = 0;
  pid_t child = start(0);
  snprintf(process, sizeof(process), "%d", (int)child);
  REQUIRE(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
  CHECK_INT(secret_count_in_process(process, TICKET_KEY, 0, SECRET_LEN, NULL), 1);
  CHECK_INT(secret_count_in_process(process, 1, 0, SECRET_LEN, NULL), 1);

  /* Stop it once more at its end, after all exit handlers. */
  REQUIRE(ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL) == 0);
  REQUIRE(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8));
  CHECK_INT(secret_count_in_process(process, OF_THE_HOST, 0, SECRET_LEN, NULL), 1);
  int pieces = secret_pieces_in(process, TICKET_KEY);
  for (int number = 1; number < SESSIONS; number++) {
    pieces += secret_pieces_in(process, number);
  }
  CHECK_INT(pieces, 0);
  REQUIRE(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int
main(void)
{
  api_open();
  if (has_core_files()) {
    check_core_dump();
  } else {
    fprintf(stderr,
            "skipped: no core file was examined: /proc/sys/kernel/core_pattern is not \"core\", or ulimit -c is 0\n");
  }
  check_end_in_order();
  return check_result();
}
