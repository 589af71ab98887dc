/** @file

  Clocks that replace those of the C library in a program that includes this.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef CLOCKS_H
#define CLOCKS_H

#include <sys/syscall.h>
#include <unistd.h>

#include "clock_calls.h"

/* How far each clock is ahead of its start. The clocks only move when the test moves them. */
static long wall_ahead, up_ahead;

int
clock_gettime(clockid_t clock, struct timespec *now)
{
  int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
  if (!is_wall && clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE) {
    return (int)syscall(SYS_clock_gettime, clock, now);
  }
  now->tv_sec  = is_wall ? 1800000000 + wall_ahead : 100000 + up_ahead;
  now->tv_nsec = 0;
  return 0;
}

/* Moves both clocks. */
static void
wait_for(long seconds)
{
  wall_ahead += seconds;
  up_ahead += seconds;
}

#endif /* CLOCKS_H */
