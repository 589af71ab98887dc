/** @file

  The C library's functions that read the time, on top of the program's own clock_gettime.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef CLOCK_CALLS_H
#define CLOCK_CALLS_H

#include <sys/time.h>
#include <time.h>

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
  struct timespec precise;
  (void)zone;
  int result   = clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec  = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return result;
}

time_t
time(time_t *result)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (result != NULL) {
    *result = now.tv_sec;
  }
  return now.tv_sec;
}

#endif /* CLOCK_CALLS_H */
