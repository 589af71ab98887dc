/** @file

  Measures the session functions of one or several libraries against each other.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef MEASURE_H
#define MEASURE_H

#include <stdbool.h>
#include <stddef.h>

/* The functions as C sees them; `struct measure_id` has the layout of TSSslSessionID. */
struct measure_id {
  size_t len;
  unsigned char bytes[32];
};

struct candidate {
  const char *name;
  void *(*get)(const struct measure_id *);
  int (*get_buffer)(const struct measure_id *, char *, int *);
  /* ATS 9 has a third argument, which may be NULL; who takes two does not see it. */
  int (*insert)(const struct measure_id *, void *, void *);
  int (*remove)(const struct measure_id *);
  /* NULL where there is no such function. */
  void (*clear)(void);
};

/* What to measure. */
struct measure_plan {
  /* Starts the thread names in the charts' file names, and titles. */
  const char *where;
  /* How many repetitions, of which the median counts. */
  int repetitions;
  /* Microseconds that one repetition of one row should take at least. */
  int slice_us;
  /* The capacity of every candidate, in sessions. */
  int capacity;
  /* The most threads. */
  int threads;
  /* Only rows whose name contains this; NULL for all. */
  const char *only;
  /* Runs `body(argument)` on a thread of its own, of a kind that may call the candidates. */
  void (*start_thread)(void *(*body)(void *), void *argument);
};

/* Looks the functions up; false if one is missing. `library` as for dlsym. */
bool candidate_find(struct candidate *candidate, const char *name, void *library);

/* Measures everything and writes one JSON line for each result to `path`. Exits with
   status 1, after a message, where a candidate does not do what it should. */
void measure_speed(const struct candidate *candidates, int count, const struct measure_plan *plan, const char *path);

/* Resident bytes per session, and how many of them the system gets back. What one
   candidate gives back to the allocator is used by the next, so all are filled first. */
void measure_memory(const struct candidate *candidates, int count, const struct measure_plan *plan, const char *path);

#endif /* MEASURE_H */
