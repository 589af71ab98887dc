/** @file

  Measures and compares the session functions of one or more libraries.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>
#include <stddef.h>

/* Has the layout of TSSslSessionID. */
struct measure_id {
  size_t len;
  unsigned char bytes[32];
};

struct candidate {
  const char *name;
  void *(*get)(const struct measure_id *);
  int (*get_buffer)(const struct measure_id *, char *, int *);
  /* The third argument is for ATS 9, and can be NULL. A function that takes two ignores it. */
  int (*insert)(const struct measure_id *, void *, void *);
  int (*remove)(const struct measure_id *);
  /* NULL if the library has no such function. */
  void (*clear)(void);
};

/* What to measure, and how. */
struct measure_plan {
  /* The first part of the charts' file names, and a part of their titles. */
  const char *where;
  /* The number of repetitions; the result is their median. */
  int repetitions;
  /* The shortest time of one repetition of one row, in microseconds. */
  int slice_us;
  /* The capacity of every candidate, in sessions. */
  int capacity;
  /* The largest number of threads. */
  int threads;
  /* Measure only rows whose name contains this; NULL for all. */
  const char *only;
  /* Runs `body(argument)` on a new thread that is allowed to call the candidates. */
  void (*start_thread)(void *(*body)(void *), void *argument);
};

/* Looks up the functions. Returns false if one is missing. `library` is a handle for dlsym. */
bool candidate_find(struct candidate *candidate, const char *name, void *library);

/* Measures everything and appends a JSON line for each result to `path`. If a candidate does not
   work, prints a message and exits with status 1. */
void measure_speed(const struct candidate *candidates, int count, const struct measure_plan *plan, const char *path);

/* Measures the resident bytes per session, and how many of them the system gets back. All candidates
   are filled first, because each reuses what another returned to the allocator. */
void measure_memory(const struct candidate *candidates, int count, const struct measure_plan *plan, const char *path);

#endif /* MEASURE_H */
