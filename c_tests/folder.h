/** @file

  A temporary directory with files for a test.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef FOLDER_H
#define FOLDER_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

/* mkdtemp replaces the X's. */
static char folder[] = "/tmp/tssession-test-XXXXXX";

static inline void
folder_make(void)
{
  REQUIRE(mkdtemp(folder) != NULL);
}

/* Returns the path of a file in the directory. It is valid until the next call. */
static inline const char *
in_folder(const char *name)
{
  static char path[256];
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  return path;
}

static inline void
folder_write(const char *name, const void *content, size_t len, mode_t mode)
{
  int file = open(in_folder(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  REQUIRE(file >= 0 && write(file, content, len) == (ssize_t)len && fchmod(file, mode) == 0);
  close(file);
}

/* Removes these files and the directory. Fails if it contains other files. */
static inline void
folder_remove(const char *const *names, size_t count)
{
  for (size_t i = 0; i < count; i++) {
    CHECK_INT(unlink(in_folder(names[i])), 0);
  }
  CHECK_INT(rmdir(folder), 0);
}

#endif /* FOLDER_H */
