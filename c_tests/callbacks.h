/** @file

  Wraps the library's callbacks. The functions here replace OpenSSL's functions that register callbacks,
  and give OpenSSL a wrapper for each.

  SPDX-License-Identifier: Apache-2.0
 */

#ifndef CALLBACKS_H
#define CALLBACKS_H

#include <dlfcn.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include "check.h"

/* The program defines these. They are called before and after each callback, on its thread. `name` is
   the callback's name in the library. */
static void callback_begins(const char *name);
static void callback_ends(const char *name);

/* The library's callbacks, one of each kind. */
static struct {
  int (*new_session)(SSL *, SSL_SESSION *);
  SSL_SESSION *(*get_session)(SSL *, const unsigned char *, int, int *);
  void (*remove_session)(SSL_CTX *, SSL_SESSION *);
  int (*ticket_key)(SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int);
  SSL_CTX_generate_session_ticket_fn generate_ticket;
  SSL_CTX_decrypt_session_ticket_fn decrypted_ticket;
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

#define CALLBACKS_CALL(type, name, parameters, ...)                                                                    \
  static type call_##name parameters                                                                                   \
  {                                                                                                                    \
    callback_begins(#name);                                                                                            \
    type result = callbacks.name(__VA_ARGS__);                                                                         \
    callback_ends(#name);                                                                                              \
    return result;                                                                                                     \
  }

#define CALLBACKS_CALL_VOID(name, parameters, ...)                                                                     \
  static void call_##name parameters                                                                                   \
  {                                                                                                                    \
    callback_begins(#name);                                                                                            \
    callbacks.name(__VA_ARGS__);                                                                                       \
    callback_ends(#name);                                                                                              \
  }

#define EX_PARAMETERS (void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl, void *argp)

CALLBACKS_CALL(int, new_session, (SSL * ssl, SSL_SESSION *session), ssl, session)
CALLBACKS_CALL(SSL_SESSION *, get_session, (SSL * ssl, const unsigned char *id, int len, int *copy), ssl, id, len, copy)
CALLBACKS_CALL_VOID(remove_session, (SSL_CTX * ctx, SSL_SESSION *session), ctx, session)
CALLBACKS_CALL(int, ticket_key,
               (SSL * ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                int encrypt),
               ssl, name, iv, cipher, mac, encrypt)
CALLBACKS_CALL(int, generate_ticket, (SSL * ssl, void *arg), ssl, arg)
CALLBACKS_CALL(SSL_TICKET_RETURN, decrypted_ticket,
               (SSL * ssl, SSL_SESSION *session, const unsigned char *name, size_t len, SSL_TICKET_STATUS status,
                void *arg),
               ssl, session, name, len, status, arg)
CALLBACKS_CALL(int, forget_in_copy,
               (CRYPTO_EX_DATA * to, const CRYPTO_EX_DATA *from, void **from_d, int index, long argl, void *argp), to,
               from, from_d, index, argl, argp)
CALLBACKS_CALL_VOID(free_attached, EX_PARAMETERS, parent, ptr, data, index, argl, argp)
CALLBACKS_CALL_VOID(connection_ends, EX_PARAMETERS, parent, ptr, data, index, argl, argp)
CALLBACKS_CALL_VOID(session_ends, EX_PARAMETERS, parent, ptr, data, index, argl, argp)

#define CALLBACKS_SET(setter, name)                                                                                    \
  void setter(SSL_CTX *ctx, __typeof__(callbacks.name) function)                                                       \
  {                                                                                                                    \
    CALLBACKS_REAL(setter)                                                                                             \
    if (function != NULL && function != call_##name) {                                                                 \
      callbacks.name = function;                                                                                       \
    }                                                                                                                  \
    real(ctx, function == NULL ? NULL : call_##name);                                                                  \
  }

CALLBACKS_SET(SSL_CTX_sess_set_new_cb, new_session)
CALLBACKS_SET(SSL_CTX_sess_set_get_cb, get_session)
CALLBACKS_SET(SSL_CTX_sess_set_remove_cb, remove_session)

int
SSL_CTX_set_tlsext_ticket_key_evp_cb(SSL_CTX *ctx, __typeof__(callbacks.ticket_key) function)
{
  CALLBACKS_REAL(SSL_CTX_set_tlsext_ticket_key_evp_cb)
  if (function != NULL) {
    callbacks.ticket_key = function;
  }
  return real(ctx, function == NULL ? NULL : call_ticket_key);
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

int
CRYPTO_get_ex_new_index(int class_index, long argl, void *argp, CRYPTO_EX_new *new_func, CRYPTO_EX_dup *dup_func,
                        CRYPTO_EX_free *free_func)
{
  CALLBACKS_REAL(CRYPTO_get_ex_new_index)
  /* OpenSSL, the host and others may call this too. */
  Dl_info caller;
  if (dladdr(__builtin_return_address(0), &caller) == 0 || strstr(caller.dli_fname, "libtssession") == NULL) {
    return real(class_index, argl, argp, new_func, dup_func, free_func);
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
