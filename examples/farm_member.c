/** @file

  A member of a farm: it shares sessions and ticket keys with other machines through Redis.

    farm_member FILE

  FILE has the settings, see farm.example.toml. Prints the farm's counters in the text format of
  Prometheus, and ends. host.c shows how a server makes its certificate and serves clients.

  SPDX-License-Identifier: Apache-2.0
 */

#include <stdio.h>
#include <stdlib.h>

#include <openssl/ssl.h>

#include <ts/ssl_session_cache.h>
#include <ts/ssl_session_farm.h>

static int
print_counters(void)
{
  /* The numbers may have more digits at the second call. */
  int len    = 0;
  int space  = TSSslSessionFarmStatsText(NULL, &len) + 1024;
  char *text = malloc((size_t)space);
  if (text == NULL) {
    return 1;
  }
  len        = space;
  int needed = TSSslSessionFarmStatsText(text, &len);
  printf("%.*s", len, text);
  free(text);
  return needed == 0 || needed > len;
}

int
main(int argc, char *argv[])
{
  if (argc != 2) {
    fprintf(stderr, "usage: %s FILE\n", argv[0]);
    return 2;
  }
  /* Start the farm before serving clients: every ticket is then made with a key that the farm
     knows. Errors in the settings are printed on standard error. */
  if (TSSslSessionFarmStart(argv[1]) != TS_SUCCESS) {
    return 1;
  }
  SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
  if (ctx == NULL || TSSslSessionCacheAttach((TSSslContext)ctx) != TS_SUCCESS) {
    return 1;
  }
  int result = print_counters();
  SSL_CTX_free(ctx);
  return result;
}
