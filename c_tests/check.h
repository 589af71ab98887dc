/** @file

  Checks for the C tests. A failed check prints its condition and place, the
  program continues, and its exit status is 1.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* Accessed atomically, because several threads check. */
static int check_failures;

/* Only the first 50 failures are printed. */
#define CHECK_OR(condition, format, ...)                                                                               \
  do {                                                                                                                 \
    if (!(condition) && __atomic_fetch_add(&check_failures, 1, __ATOMIC_RELAXED) < 50) {                               \
      fprintf(stderr, "%s:%d: " format "\n", __FILE__, __LINE__, __VA_ARGS__);                                         \
    }                                                                                                                  \
  } while (0)

#define CHECK(condition) CHECK_OR(condition, "CHECK failed: %s", #condition)

#define CHECK_INT(actual, expected)                                                                                    \
  do {                                                                                                                 \
    long long check_actual   = (long long)(actual);                                                                    \
    long long check_expected = (long long)(expected);                                                                  \
    CHECK_OR(check_actual == check_expected, "%s is %lld, not %lld (%s)", #actual, check_actual, check_expected,       \
             #expected);                                                                                               \
  } while (0)

/* Ends the program if a condition fails without which the rest of the test makes no sense. */
#define REQUIRE(condition)                                                                                             \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: REQUIRE failed: %s\n", __FILE__, __LINE__, #condition);                                  \
      exit(2);                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* Waits for a child, and checks that its exit status is 0. */
static inline void
check_child(pid_t child)
{
  int status = 1;
  CHECK_INT(waitpid(child, &status, 0), child);
  CHECK_INT(status, 0);
}

static inline int
check_result(void)
{
  if (check_failures != 0) {
    fprintf(stderr, "%d checks failed\n", check_failures);
  }
  return check_failures != 0;
}

/* Returns a number of repetitions, reduced when the test runs slowly (valgrind). */
static inline int
check_scaled(int count)
{
  const char *percent = getenv("CHECK_SCALE");
  int scaled          = percent == NULL ? count : count * atoi(percent) / 100;
  return scaled > 0 ? scaled : 1;
}

#endif /* CHECK_H */
