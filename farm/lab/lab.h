/** @file

  What the measuring programs share. They come between the farm and libtssession: the farm finds their
  functions before the library's functions of the same names.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef LAB_H
#define LAB_H

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>
#include <ts/ts.h>

#include "check.h"

static inline int64_t
nanoseconds(clockid_t clock)
{
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Finds the library's function with a name that the program defines too. */
static inline void
find_next(const char *name, void *function)
{
  void *found = dlsym(RTLD_NEXT, name);
  REQUIRE(found != NULL);
  memcpy(function, &found, sizeof(found));
}

/* The farm's hook, and on_event, which is called instead and calls it. */
static TSEventFunc farm_hook;
static TSCont farm_cont;
static int on_event(TSCont cont, TSEvent event, void *id);

TSReturnCode
TSSslSessionHookAdd(TSEventFunc func, TSCont contp)
{
  TSReturnCode (*add)(TSEventFunc, TSCont);
  find_next("TSSslSessionHookAdd", &add);
  farm_hook = func;
  farm_cont = contp;
  return add(on_event, contp);
}

/* Returns a counter of the farm, such as "published". */
static inline int64_t
counter(const char *name)
{
  char full[64];
  int64_t value;
  snprintf(full, sizeof(full), "plugin.tssession_farm.%s", name);
  REQUIRE(TSSslSessionFarmStatGet(full, &value) == TS_SUCCESS);
  return value;
}

/* For qsort. */
static inline int
compare_doubles(const void *left, const void *right)
{
  double a = *(const double *)left, b = *(const double *)right;
  return (a > b) - (a < b);
}

#endif /* LAB_H */
