/** @file

  The measurements of measure.h inside the real traffic_server: its own session functions and those
  of libtssession, loaded into the same process.

    ats_plugin.so OUT LIBRARY [REPETITIONS [ROW]]

  Appends JSON lines to OUT and ends the process with the status that tools/ats.sh expects.

  SPDX-License-Identifier: Apache-2.0
 */

#include "measure.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ts/ts.h>

static char out[4096];
static char library_path[4096];
static struct measure_plan plan = {
  .where       = "ats",
  .repetitions = 7,
  .slice_us    = 20000,
  .capacity    = 102400,
  .threads     = 2,
};

/* The session functions of ATS work only on its own threads. */
static void
start_thread(void *(*body)(void *), void *argument)
{
  TSThreadCreate(body, argument);
}

static void *
measure(void *unused)
{
  struct candidate candidates[2];
  void *library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);

  (void)unused;
  if (library == NULL || !candidate_find(&candidates[0], "tssession", library) ||
      !candidate_find(&candidates[1], "ATS", RTLD_DEFAULT)) {
    fprintf(stderr, "%s\n", dlerror());
    exit(1);
  }
  if (candidates[0].get_buffer == candidates[1].get_buffer) {
    fprintf(stderr, "%s: its functions are those of ATS\n", library_path);
    exit(1);
  }
  if (plan.only == NULL) {
    measure_memory(candidates, 2, &plan, out);
  }
  measure_speed(candidates, 2, &plan, out);
  /* Not exit(): the end of the server is not measured. */
  _exit(42);
}

static int
ports_are_ready(TSCont continuation, TSEvent event, void *data)
{
  (void)continuation, (void)event, (void)data;
  start_thread(measure, NULL);
  return 0;
}

void
TSPluginInit(int argc, const char *argv[])
{
  TSPluginRegistrationInfo info = {.plugin_name = "tssession_bench", .vendor_name = "tssession", .support_email = "-"};
  if (TSPluginRegister(&info) != TS_SUCCESS || argc < 3) {
    TSError("usage: ats_plugin.so OUT LIBRARY [REPETITIONS [ROW]]");
    exit(1);
  }
  snprintf(out, sizeof(out), "%s", argv[1]);
  snprintf(library_path, sizeof(library_path), "%s", argv[2]);
  plan.repetitions  = argc > 3 ? atoi(argv[3]) : plan.repetitions;
  plan.only         = argc > 4 ? strdup(argv[4]) : NULL;
  plan.start_thread = start_thread;
  TSLifecycleHookAdd(TS_LIFECYCLE_PORTS_READY_HOOK, TSContCreate(ports_are_ready, NULL));
}
