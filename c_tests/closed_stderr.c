/** @file

  Log lines go to standard error only while descriptor 2 is that. If a host has closed it, no lines go
  to the file that then gets descriptor 2. If a host has replaced it by a log file, they go there.

  Without an argument, the program runs itself once for each case.

  SPDX-License-Identifier: Apache-2.0
 */

#include <sys/socket.h>
#include <sys/wait.h>

#include "api.h"
#include "check.h"
#include "folder.h"

static const struct {
  const char *name;
  /* Whether a line is in the file that was stderr first, and in the one that took its place. */
  int in_first;
  int in_second;
} ways[] = {
  {"kept", 1, 0},         {"closed at load", 0, 0}, {"taken at load", 0, 0}, {"closed later", 0, 0},
  {"a connection", 0, 0}, {"freopen", 0, 1},        {"dup2", 0, 1},
};

/* Checks that the new file has the descriptor of the closed stderr. */
static void
take_place(int file)
{
  REQUIRE(file == STDERR_FILENO);
}

/* Runs one case. The argument is the second file. */
static void
be_host(const char *way, const char *second)
{
  int ends[2];
  /* If it is linked, the library is already loaded. */
  if (strcmp(way, "taken at load") == 0) {
    take_place(open(second, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  }
  api_open();
  if (strcmp(way, "closed at load") == 0) {
    take_place(open(second, O_RDWR | O_CREAT, 0600));
  } else if (strcmp(way, "closed later") == 0) {
    close(STDERR_FILENO);
    take_place(open(second, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  } else if (strcmp(way, "a connection") == 0) {
    close(STDERR_FILENO);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    take_place(ends[0]);
  } else if (strcmp(way, "freopen") == 0) {
    REQUIRE(freopen(second, "w", stderr) != NULL);
  } else if (strcmp(way, "dup2") == 0) {
    int file = open(second, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(file >= 0 && dup2(file, STDERR_FILENO) == STDERR_FILENO);
  }
  /* An error is logged. */
  REQUIRE(TSSslSessionGet(NULL) == NULL);
  if (strcmp(way, "a connection") == 0) {
    char byte;
    REQUIRE(recv(ends[1], &byte, 1, MSG_DONTWAIT) < 0);
  }
}

static int
has_line(const char *name)
{
  char text[1000] = "";
  int file        = open(in_folder(name), O_RDONLY);
  if (file >= 0) {
    CHECK(read(file, text, sizeof(text) - 1) >= 0);
    close(file);
  }
  CHECK(text[0] == '\0' || strstr(text, "the session ID is NULL") != NULL);
  return text[0] != '\0';
}

int
main(int argc, char **argv)
{
  static const char *const files[] = {"first", "second"};
  char second[300];

  if (argc == 3) {
    be_host(argv[1], argv[2]);
    return 0;
  }
  folder_make();
  snprintf(second, sizeof(second), "%s", in_folder("second"));
  for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
    int status = 1;
    folder_write("first", "", 0, 0600);
    folder_write("second", "", 0, 0600);
    pid_t child = fork();
    if (child == 0) {
      close(STDERR_FILENO);
      if (strstr(ways[i].name, "at load") == NULL) {
        take_place(open(in_folder("first"), O_WRONLY));
      }
      execl("/proc/self/exe", argv[0], ways[i].name, second, (char *)NULL);
      _exit(99);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK_OR(status == 0 && has_line("first") == ways[i].in_first && has_line("second") == ways[i].in_second,
             "%s: status %x", ways[i].name, (unsigned)status);
  }
  folder_remove(files, 2);
  return check_result();
}
