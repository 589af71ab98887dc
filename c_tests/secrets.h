/** @file

  Secrets, and the search for them in memory and in files.

  The program itself keeps secrets only in disguise, so that a search finds the
  library's copies alone. A search is for a whole secret, or for each eighth of
  it, so that pieces are found too.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef SECRETS_H
#define SECRETS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "check.h"

enum { SECRET_LEN = 32, SECRET_PIECE = 8, SECRET_DISGUISE = 0x5c };

/* Writes the bytes of secret number `number`, in disguise. */
static inline void
secret_disguised(int number, unsigned char *secret)
{
  uint64_t state = 88172645463325252u + (uint64_t)number;
  for (int i = 0; i < SECRET_LEN; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    secret[i] = (unsigned char)(state >> 32) ^ SECRET_DISGUISE;
  }
}

/* Writes the bytes themselves, which the caller soon wipes. */
static inline void
secret_bytes(int number, unsigned char *secret)
{
  secret_disguised(number, secret);
  for (int i = 0; i < SECRET_LEN; i++) {
    secret[i] ^= SECRET_DISGUISE;
  }
}

/* Counts `len` bytes of a secret, from `offset` on, in [from, to) of a file. Skips what cannot be
   read. Sets `last`, unless it is NULL, to the place of the last one. */
static inline int
secret_count(int file, unsigned long from, unsigned long to, int number, int offset, int len, unsigned long *last)
{
  static unsigned char block[1 << 16];
  unsigned char secret[SECRET_LEN];
  int count = 0;

  secret_disguised(number, secret);
  /* Blocks overlap by the length of a secret. The memory of `block` itself is skipped. */
  for (; from < to; from += sizeof(block) - SECRET_LEN) {
    if (from < (unsigned long)block + sizeof(block) && from + sizeof(block) > (unsigned long)block) {
      continue;
    }
    size_t want = to - from < sizeof(block) ? to - from : sizeof(block);
    ssize_t got = pread(file, block, want, (off_t)from);
    for (ssize_t i = 0; i + len <= got; i++) {
      /* Secrets that begin in the overlap are found in the next block. */
      if (i >= (ssize_t)sizeof(block) - SECRET_LEN && from + sizeof(block) < to) {
        break;
      }
      int at = 0;
      while (at < len && (block[i + at] ^ SECRET_DISGUISE) == secret[offset + at]) {
        at++;
      }
      if (at == len) {
        count++;
        if (last != NULL) {
          *last = from + (unsigned long)i;
        }
      }
    }
  }
  OPENSSL_cleanse(block, sizeof(block));
  return count;
}

/* Counts them in the writable memory of a process, "self" or its process ID. */
static inline int
secret_count_in_process(const char *process, int number, int offset, int len, unsigned long *last)
{
  char path[64];
  char line[512];
  char access[5];
  unsigned long from;
  unsigned long to;
  int count = 0;

  snprintf(path, sizeof(path), "/proc/%s/maps", process);
  FILE *maps = fopen(path, "r");
  snprintf(path, sizeof(path), "/proc/%s/mem", process);
  int memory = open(path, O_RDONLY);
  REQUIRE(maps != NULL && memory >= 0);
  while (fgets(line, sizeof(line), maps) != NULL) {
    if (sscanf(line, "%lx-%lx %4s", &from, &to, access) == 3 && access[0] == 'r' && access[1] == 'w') {
      count += secret_count(memory, from, to, number, offset, len, last);
    }
  }
  close(memory);
  fclose(maps);
  return count;
}

/* Counts a whole secret in the memory of this process. */
static inline int
secret_in_memory(int number)
{
  return secret_count_in_process("self", number, 0, SECRET_LEN, NULL);
}

/* Counts the pieces of a secret in the memory of a process. */
static inline int
secret_pieces_in(const char *process, int number)
{
  int count = 0;
  for (int piece = 0; piece < SECRET_LEN; piece += SECRET_PIECE) {
    count += secret_count_in_process(process, number, piece, SECRET_PIECE, NULL);
  }
  return count;
}

#endif /* SECRETS_H */
