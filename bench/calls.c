/** @file

  Measures libraries that have the session functions, loaded side by side.

    calls [-r REPETITIONS] [-t THREADS] [-s SLICE_US] [-o ROW] OUT NAME=LIBRARY...

  Appends JSON lines to OUT. Memory is measured in a separate process for each library.

  SPDX-License-Identifier: Apache-2.0
 */

#include "measure.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void
start_thread(void *(*body)(void *), void *argument)
{
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, argument) != 0) {
    perror("pthread_create");
    exit(1);
  }
  pthread_detach(thread);
}

static struct candidate
load(char *argument)
{
  struct candidate candidate;
  char *equals = strchr(argument, '=');
  if (equals == NULL) {
    fprintf(stderr, "%s: not NAME=LIBRARY\n", argument);
    exit(2);
  }
  *equals       = '\0';
  void *library = dlopen(equals + 1, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL || !candidate_find(&candidate, argument, library)) {
    fprintf(stderr, "%s\n", dlerror());
    exit(2);
  }
  *equals        = '=';
  candidate.name = strndup(argument, (size_t)(equals - argument));
  return candidate;
}

int
main(int argc, char **argv)
{
  struct measure_plan plan = {
    .where        = "calls",
    .repetitions  = 9,
    .slice_us     = 20000,
    .capacity     = 102400,
    .threads      = 4,
    .start_thread = start_thread,
  };
  struct candidate candidates[8];
  int count = 0;

  for (int option; (option = getopt(argc, argv, "r:t:s:o:")) != -1;) {
    switch (option) {
    case 'r':
      plan.repetitions = atoi(optarg);
      break;
    case 't':
      plan.threads = atoi(optarg);
      break;
    case 's':
      plan.slice_us = atoi(optarg);
      break;
    case 'o':
      plan.only = optarg;
      break;
    default:
      return 2;
    }
  }
  if (argc - optind < 2 || argc - optind > 9) {
    fprintf(stderr, "usage: calls [-r REPETITIONS] [-t THREADS] [-s SLICE_US] [-o ROW] OUT NAME=LIBRARY...\n");
    return 2;
  }
  const char *out = argv[optind++];
  for (int i = optind; plan.only == NULL && i < argc; i++) {
    int status;
    pid_t child = fork();
    if (child == 0) {
      struct candidate candidate = load(argv[i]);
      measure_memory(&candidate, 1, &plan, out);
      _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
      fprintf(stderr, "%s: the measurement of memory failed\n", argv[i]);
      return 1;
    }
  }
  for (int i = optind; i < argc; i++) {
    candidates[count++] = load(argv[i]);
  }
  measure_speed(candidates, count, &plan, out);
  return 0;
}
