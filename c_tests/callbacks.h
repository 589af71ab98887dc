/** @file

  Comes between OpenSSL and the library's callbacks: the library's calls that register them
  land in the functions of these names here.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef CALLBACKS_H
#define CALLBACKS_H

#include <dlfcn.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "check.h"

/* For the program to define: called around each callback, on its thread. `name` is that in
   the library. */
static void callback_begins(const char *name);
static void callback_ends(const char *name);

typedef int (*new_function)(SSL *, SSL_SESSION *);
typedef SSL_SESSION *(*get_function)(SSL *, const unsigned char *, int, int *);
typedef void (*remove_function)(SSL_CTX *, SSL_SESSION *);
typedef int (*ticket_key_function)(SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int);

/* The library's callbacks: one of each kind. */
static struct {
  new_function new_session;
  get_function get_session;
  remove_function remove_session;
  ticket_key_function ticket_key;
  SSL_CTX_generate_session_ticket_fn generate_ticket;
  SSL_CTX_decrypt_session_ticket_fn decrypted_ticket;
  CRYPTO_EX_new *note_context;
  CRYPTO_EX_dup *forget_in_copy;
  CRYPTO_EX_free *free_attached;
  CRYPTO_EX_free *connection_ends;
  CRYPTO_EX_free *session_ends;
} callbacks;

#define CALLBACKS_REAL(name)                                                                                           \
  static __typeof__(&name) real;                                                                                       \
  if (real == NULL) {                                                                                                  \
    void *found = dlsym(RTLD_NEXT, #name);                                                                             \
    REQUIRE(found != NULL);                                                                                            \
    memcpy(&real, &found, sizeof(found));                                                                              \
  }

static int
call_new_session(SSL *ssl, SSL_SESSION *session)
{
  callback_begins("new_session");
  int result = callbacks.new_session(ssl, session);
  callback_ends("new_session");
  return result;
}

void
SSL_CTX_sess_set_new_cb(SSL_CTX *ctx, new_function function)
{
  CALLBACKS_REAL(SSL_CTX_sess_set_new_cb)
  if (function != NULL && function != call_new_session) {
    callbacks.new_session = function;
  }
  real(ctx, function == NULL ? NULL : call_new_session);
}

static SSL_SESSION *
call_get_session(SSL *ssl, const unsigned char *id, int len, int *copy)
{
  callback_begins("get_session");
  SSL_SESSION *result = callbacks.get_session(ssl, id, len, copy);
  callback_ends("get_session");
  return result;
}

void
SSL_CTX_sess_set_get_cb(SSL_CTX *ctx, get_function function)
{
  CALLBACKS_REAL(SSL_CTX_sess_set_get_cb)
  if (function != NULL && function != call_get_session) {
    callbacks.get_session = function;
  }
  real(ctx, function == NULL ? NULL : call_get_session);
}

static void
call_remove_session(SSL_CTX *ctx, SSL_SESSION *session)
{
  callback_begins("remove_session");
  callbacks.remove_session(ctx, session);
  callback_ends("remove_session");
}

void
SSL_CTX_sess_set_remove_cb(SSL_CTX *ctx, remove_function function)
{
  CALLBACKS_REAL(SSL_CTX_sess_set_remove_cb)
  if (function != NULL && function != call_remove_session) {
    callbacks.remove_session = function;
  }
  real(ctx, function == NULL ? NULL : call_remove_session);
}

static int
call_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
  callback_begins("ticket_key");
  int result = callbacks.ticket_key(ssl, name, iv, cipher, mac, encrypt);
  callback_ends("ticket_key");
  return result;
}

int
SSL_CTX_set_tlsext_ticket_key_evp_cb(SSL_CTX *ctx, ticket_key_function function)
{
  CALLBACKS_REAL(SSL_CTX_set_tlsext_ticket_key_evp_cb)
  if (function != NULL) {
    callbacks.ticket_key = function;
  }
  return real(ctx, function == NULL ? NULL : call_ticket_key);
}

static int
call_generate_ticket(SSL *ssl, void *arg)
{
  callback_begins("generate_ticket");
  int result = callbacks.generate_ticket(ssl, arg);
  callback_ends("generate_ticket");
  return result;
}

static SSL_TICKET_RETURN
call_decrypted_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t len, SSL_TICKET_STATUS status,
                      void *arg)
{
  callback_begins("decrypted_ticket");
  SSL_TICKET_RETURN result = callbacks.decrypted_ticket(ssl, session, name, len, status, arg);
  callback_ends("decrypted_ticket");
  return result;
}

int
SSL_CTX_set_session_ticket_cb(SSL_CTX *ctx, SSL_CTX_generate_session_ticket_fn generate,
                              SSL_CTX_decrypt_session_ticket_fn decrypt, void *arg)
{
  CALLBACKS_REAL(SSL_CTX_set_session_ticket_cb)
  CHECK_INT(generate == NULL, decrypt == NULL);
  if (decrypt != NULL) {
    callbacks.generate_ticket  = generate;
    callbacks.decrypted_ticket = decrypt;
  }
  return real(ctx, generate == NULL ? NULL : call_generate_ticket, decrypt == NULL ? NULL : call_decrypted_ticket, arg);
}

static void
call_note_context(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
  callback_begins("note_context");
  callbacks.note_context(parent, ptr, data, index, argl, argp);
  callback_ends("note_context");
}

static int
call_forget_in_copy(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **from_d, int index, long argl, void *argp)
{
  callback_begins("forget_in_copy");
  int result = callbacks.forget_in_copy(to, from, from_d, index, argl, argp);
  callback_ends("forget_in_copy");
  return result;
}

#define CALLBACKS_FREE(name)                                                                                           \
  static void call_##name(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp)             \
  {                                                                                                                    \
    callback_begins(#name);                                                                                            \
    callbacks.name(parent, ptr, data, index, argl, argp);                                                              \
    callback_ends(#name);                                                                                              \
  }

CALLBACKS_FREE(free_attached)
CALLBACKS_FREE(connection_ends)
CALLBACKS_FREE(session_ends)

int
CRYPTO_get_ex_new_index(int class_index, long argl, void *argp, CRYPTO_EX_new *new_func, CRYPTO_EX_dup *dup_func,
                        CRYPTO_EX_free *free_func)
{
  CALLBACKS_REAL(CRYPTO_get_ex_new_index)
  /* OpenSSL itself, the host and others may call this too. */
  Dl_info caller;
  if (dladdr(__builtin_return_address(0), &caller) == 0 || strstr(caller.dli_fname, "libtssession") == NULL) {
    return real(class_index, argl, argp, new_func, dup_func, free_func);
  }
  if (new_func != NULL) {
    callbacks.note_context = new_func;
    new_func               = call_note_context;
  }
  if (dup_func != NULL) {
    callbacks.forget_in_copy = dup_func;
    dup_func                 = call_forget_in_copy;
  }
  if (free_func != NULL) {
    switch (class_index) {
    case CRYPTO_EX_INDEX_SSL_CTX:
      callbacks.free_attached = free_func;
      free_func               = call_free_attached;
      break;
    case CRYPTO_EX_INDEX_SSL:
      callbacks.connection_ends = free_func;
      free_func                 = call_connection_ends;
      break;
    default:
      CHECK_INT(class_index, CRYPTO_EX_INDEX_SSL_SESSION);
      callbacks.session_ends = free_func;
      free_func              = call_session_ends;
    }
  }
  return real(class_index, argl, argp, new_func, dup_func, free_func);
}

#endif /* CALLBACKS_H */
