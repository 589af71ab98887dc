/** @file

  The resident memory of the process.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef RESIDENT_H
#define RESIDENT_H

#include <stdio.h>
#include <unistd.h>

#include "check.h"

/* In bytes. */
static inline long
resident(void)
{
  long all, pages;
  FILE *file = fopen("/proc/self/statm", "r");
  REQUIRE(file != NULL && fscanf(file, "%ld %ld", &all, &pages) == 2);
  fclose(file);
  return pages * sysconf(_SC_PAGESIZE);
}

#endif /* RESIDENT_H */
