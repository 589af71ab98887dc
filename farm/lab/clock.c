/** @file

  A wrong clock for a process with this in LD_PRELOAD. Its time of day is wrong by a number of
  seconds, an int64_t in the file that CLOCK_OFFSET names, which can change at any time. The monotonic
  clocks are not affected.

  It calls the kernel directly and allocates nothing, because Redis's allocator asks for the time very
  early.

  SPDX-License-Identifier: Apache-2.0
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../c_tests/clock_calls.h"

static const volatile int64_t *offset;

__attribute__((constructor)) static void
find_offset(void)
{
  const char *name = getenv("CLOCK_OFFSET");
  int fd           = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    void *file = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
    offset     = file == MAP_FAILED ? NULL : file;
    close(fd);
  }
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
  int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && offset != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    now->tv_sec += *offset;
  }
  return result;
}
