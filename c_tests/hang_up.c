/** @file

  Clients that leave in every possible way, over real sockets, and return. Those that
  only hang up resume; those that break the protocol do not. A line is printed for each
  way.

  The server always calls SSL_shutdown before SSL_free, as hosts must. Half of the
  servers block and half poll; half of the shutdowns are quiet.

  SPDX-License-Identifier: Apache-2.0
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>

#include "api.h"
#include "check.h"
#include "tls.h"

#define CLIENTS 60
#define PAIRS 4
#define RETURNS 2
#define CHUNK 4096
#define CHUNKS 64
#define PATIENCE 60

/* What the server does after it has greeted the client. */
enum script {
  READ,       /* reads until the end */
  LATE_READ,  /* does so once the client has gone */
  LATE_WRITE, /* writes once the client has gone */
  WRITE,      /* writes a response that does not fit the buffers, then reads */
};

/* How the client leaves; the socket is closed in the end. */
enum leaving {
  CLOSE_NOTIFY,
  FIN,
  HALF_FIN, /* FIN, but the client still receives */
  DATA_FIN,
  DATA_RST,
  RST,
  PART_OF_HEADER,
  PART_OF_RECORD,
  BROKEN_RECORD, /* not encrypted */
  WRONG_MAC,     /* the last byte of a real record is another one */
  NOT_TLS,
  ALERT, /* the client itself finds a broken record */
};

/* When it leaves. */
enum moment {
  GREETED,
  ASKED,    /* after the ClientHello, with a session to resume */
  FINISHED, /* after its last handshake message, with a session to resume */
  SERVED,   /* in the middle of the response */
};

/* What the server sees. */
enum {
  SAW_CLOSE_NOTIFY = 1,
  SAW_EOF          = 2,
  SAW_RESET        = 4, /* ECONNRESET or EPIPE */
  SAW_FAULT        = 8, /* a broken protocol; it sent a fatal alert */
  SAW_ALERT        = 16,
  SAW_OTHER        = 32,
};

struct way {
  const char *name;
  enum moment moment;
  enum leaving leaving;
  enum script script;
  int sees; /* one or more of these */
};

static const struct way kept[] = {
  {"close_notify", GREETED, CLOSE_NOTIFY, READ, SAW_CLOSE_NOTIFY},
  {"FIN, server reading", GREETED, FIN, READ, SAW_EOF},
  {"FIN, server reads later", GREETED, FIN, LATE_READ, SAW_EOF},
  {"FIN, server writes later", GREETED, FIN, LATE_WRITE, SAW_EOF | SAW_RESET},
  {"data and FIN", GREETED, DATA_FIN, READ, SAW_EOF},
  {"data and FIN, read later", GREETED, DATA_FIN, LATE_READ, SAW_EOF},
  {"RST, server reading", GREETED, RST, READ, SAW_RESET},
  {"RST, server reads later", GREETED, RST, LATE_READ, SAW_RESET},
  {"RST, server writes later", GREETED, RST, LATE_WRITE, SAW_EOF | SAW_RESET},
  {"data and RST", GREETED, DATA_RST, READ, SAW_RESET},
  {"part of a header and FIN", GREETED, PART_OF_HEADER, READ, SAW_EOF},
  {"part of a record and FIN", GREETED, PART_OF_RECORD, READ, SAW_EOF},
  {"FIN amid the response", SERVED, HALF_FIN, WRITE, SAW_EOF},
  {"close amid the response", SERVED, FIN, WRITE, SAW_EOF | SAW_RESET},
  {"RST amid the response", SERVED, RST, WRITE, SAW_EOF | SAW_RESET},
  {"close_notify amid it", SERVED, CLOSE_NOTIFY, WRITE, SAW_CLOSE_NOTIFY | SAW_EOF | SAW_RESET},
  {"FIN after ClientHello", ASKED, HALF_FIN, READ, SAW_EOF},
  {"close after ClientHello", ASKED, FIN, READ, SAW_EOF | SAW_RESET},
  {"RST after ClientHello", ASKED, RST, READ, SAW_EOF | SAW_RESET},
  {"FIN after Finished", FINISHED, FIN, READ, SAW_EOF | SAW_RESET},
  {"RST after Finished", FINISHED, RST, READ, SAW_EOF | SAW_RESET},
};

static const struct way lost[] = {
  {"broken record", GREETED, BROKEN_RECORD, READ, SAW_FAULT},
  {"broken record, read later", GREETED, BROKEN_RECORD, LATE_READ, SAW_FAULT},
  {"wrong MAC", GREETED, WRONG_MAC, READ, SAW_FAULT},
  {"no TLS record", GREETED, NOT_TLS, READ, SAW_FAULT},
  {"alert from the client", GREETED, ALERT, READ, SAW_ALERT},
  {"alert, read later", GREETED, ALERT, LATE_READ, SAW_ALERT},
  {"broken record amid response", SERVED, BROKEN_RECORD, WRITE, SAW_FAULT},
  {"alert amid the response", SERVED, ALERT, WRITE, SAW_ALERT},
  {"broken record in handshake", ASKED, BROKEN_RECORD, READ, SAW_FAULT},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A server for one connection at a time, and its clients. */
struct pair {
  SSL_CTX *server;
  SSL_CTX *client;
  const struct way *way;
  int polling;
  int visitors;
  int listener;
  struct sockaddr_in address;
  sem_t left; /* the client has gone */
  sem_t over; /* the server has ended the connection */
  int closing;
  int quiet;
  int saw;
  int returned;
  int resumed;
};

/* Waits until a call can be repeated. Returns 0 if it must not be. `also` are other events to wake up for. */
static int
again(SSL *ssl, int result, int also)
{
  struct pollfd poll_fd = {.fd = SSL_get_fd(ssl)};

  switch (SSL_get_error(ssl, result)) {
  case SSL_ERROR_WANT_READ:
    poll_fd.events = (short)(POLLIN | also);
    break;
  case SSL_ERROR_WANT_WRITE:
    poll_fd.events = (short)(POLLOUT | also);
    break;
  default:
    return 0;
  }
  REQUIRE(poll(&poll_fd, 1, PATIENCE * 1000) == 1);
  return 1;
}

static int
what_happened(SSL *ssl, int result)
{
  int last_errno = errno;
  switch (SSL_get_error(ssl, result)) {
  case SSL_ERROR_ZERO_RETURN:
    return SAW_CLOSE_NOTIFY;
  case SSL_ERROR_SYSCALL:
    return last_errno == ECONNRESET || last_errno == EPIPE ? SAW_RESET : SAW_OTHER;
  case SSL_ERROR_SSL: {
    /* The first error is the cause, as for SSL_get_error: a newer OpenSSL adds one of a failed write. */
    int reason = ERR_GET_REASON(ERR_peek_error());
    return reason == SSL_R_UNEXPECTED_EOF_WHILE_READING ? SAW_EOF
           : reason > SSL_AD_REASON_OFFSET              ? SAW_ALERT
                                                        : SAW_FAULT;
  }
  default:
    return SAW_OTHER;
  }
}

static int
read_to_the_end(SSL *ssl)
{
  char bytes[CHUNK];
  int result;
  do {
    ERR_clear_error();
    errno  = 0;
    result = SSL_read(ssl, bytes, sizeof(bytes));
  } while (result > 0 || again(ssl, result, 0));
  return what_happened(ssl, result);
}

/* Returns 0 if all is written, or if there is something to read first. */
static int
write_much(SSL *ssl, int polling)
{
  static const char bytes[CHUNK];
  for (int i = 0; i < CHUNKS; i++) {
    int result;
    do {
      struct pollfd poll_fd = {.fd = SSL_get_fd(ssl), .events = POLLIN};
      if (polling && poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLIN | POLLERR)) == POLLIN) {
        return 0;
      }
      ERR_clear_error();
      errno  = 0;
      result = SSL_write(ssl, bytes, sizeof(bytes));
    } while (result <= 0 && again(ssl, result, POLLIN));
    if (result <= 0) {
      return what_happened(ssl, result);
    }
  }
  return 0;
}

static int
serve(struct pair *pair, SSL *ssl)
{
  int result;
  int saw;

  do {
    ERR_clear_error();
    errno  = 0;
    result = SSL_accept(ssl);
  } while (result <= 0 && again(ssl, result, 0));
  if (result == 1) {
    ERR_clear_error();
    errno  = 0;
    result = SSL_write(ssl, "!", 1);
  }
  if (result <= 0) {
    return what_happened(ssl, result);
  }
  switch (pair->closing ? READ : pair->way->script) {
  case LATE_READ:
    REQUIRE(sem_wait(&pair->left) == 0);
    break;
  case LATE_WRITE:
    REQUIRE(sem_wait(&pair->left) == 0);
    /* fall through */
  case WRITE:
    saw = write_much(ssl, pair->polling);
    /* After a failed write, some hosts still read, others do not. */
    if (saw != 0 && pair->quiet) {
      return saw;
    }
    int then = read_to_the_end(ssl);
    /* In OpenSSL 4, a system error ends a connection. */
    return OPENSSL_VERSION_MAJOR >= 4 && saw == SAW_RESET && then == SAW_FAULT ? saw : saw | then;
  default:
    break;
  }
  return read_to_the_end(ssl);
}

static void
set_up(int fd)
{
  struct timeval patience = {.tv_sec = PATIENCE};
  int yes                 = 1;
  REQUIRE(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) == 0);
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0);
}

static void *
run_server(void *arg)
{
  struct pair *pair = arg;
  int fd;

  while ((fd = accept4(pair->listener, NULL, NULL, pair->polling ? SOCK_NONBLOCK : 0)) >= 0) {
    SSL *ssl = SSL_new(pair->server);
    set_up(fd);
    REQUIRE(ssl != NULL && SSL_set_fd(ssl, fd) == 1);
    pair->saw = serve(pair, ssl);
    SSL_set_quiet_shutdown(ssl, pair->quiet);
    SSL_shutdown(ssl);
    ERR_clear_error();
    SSL_free(ssl);
    close(fd);
    pair->quiet = !pair->quiet;
    REQUIRE(sem_post(&pair->over) == 0);
  }
  return NULL;
}

static void
send_all(int fd, const void *bytes, size_t len)
{
  REQUIRE(send(fd, bytes, len, MSG_NOSIGNAL) == (ssize_t)len);
}

/* Makes the client write its next record to memory instead of the socket. */
static BIO *
next_record(SSL *ssl, unsigned char **bytes, size_t *len)
{
  static const char request[1000];
  BIO *memory = BIO_new(BIO_s_mem());
  REQUIRE(memory != NULL && BIO_up_ref(memory) == 1);
  SSL_set0_wbio(ssl, memory);
  REQUIRE(SSL_write(ssl, request, sizeof(request)) == (int)sizeof(request));
  long in_memory = BIO_get_mem_data(memory, (char **)bytes);
  REQUIRE(in_memory > (long)sizeof(request));
  *len = (size_t)in_memory;
  return memory;
}

static const unsigned char broken[5 + 32] = {SSL3_RT_APPLICATION_DATA, 3, 3, 0, 32};

static void
tell_server(struct pair *pair)
{
  if (!pair->closing && (pair->way->script == LATE_READ || pair->way->script == LATE_WRITE)) {
    REQUIRE(sem_post(&pair->left) == 0);
  }
}

static void
leave(struct pair *pair, int fd, SSL *ssl, enum leaving leaving)
{
  static const char data[3 * CHUNK];
  static const char request[]    = "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n";
  static const struct linger rst = {.l_onoff = 1};
  BIO *memory                    = NULL;
  unsigned char *record;
  size_t len;
  char byte;
  int receiving = 0;
  int result;

  switch (leaving) {
  case CLOSE_NOTIFY:
    SSL_shutdown(ssl);
    break;
  case FIN:
    break;
  case HALF_FIN:
    receiving = 1;
    break;
  case DATA_FIN:
  case DATA_RST:
    REQUIRE(SSL_write(ssl, data, sizeof(data)) == (int)sizeof(data));
    break;
  case RST:
    break;
  case PART_OF_HEADER:
  case PART_OF_RECORD:
    memory = next_record(ssl, &record, &len);
    send_all(fd, record, leaving == PART_OF_HEADER ? 3 : len / 2);
    break;
  case BROKEN_RECORD:
    send_all(fd, broken, sizeof(broken));
    receiving = 1;
    break;
  case WRONG_MAC:
    memory = next_record(ssl, &record, &len);
    record[len - 1] ^= 1;
    send_all(fd, record, len);
    receiving = 1;
    break;
  case NOT_TLS:
    send_all(fd, request, sizeof(request) - 1);
    receiving = 1;
    break;
  case ALERT:
    memory = BIO_new_mem_buf(broken, sizeof(broken));
    REQUIRE(memory != NULL && BIO_up_ref(memory) == 1);
    SSL_set0_rbio(ssl, memory);
    result = SSL_read(ssl, &byte, 1);
    REQUIRE(result <= 0 && SSL_get_error(ssl, result) == SSL_ERROR_SSL);
    receiving = 1;
    break;
  }
  BIO_free(memory);
  ERR_clear_error();
  if (receiving) {
    /* Unread bytes at close would make it an RST. */
    char bytes[CHUNK];
    shutdown(fd, SHUT_WR);
    tell_server(pair);
    while (recv(fd, bytes, sizeof(bytes), 0) > 0) {
    }
  }
  if (leaving == RST || leaving == DATA_RST) {
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst)) == 0);
  }
  close(fd);
  if (!receiving) {
    tell_server(pair);
  }
}

static void
send_client_hello(int fd, SSL *ssl)
{
  BIO *nothing = BIO_new(BIO_s_mem());
  BIO *memory  = BIO_new(BIO_s_mem());
  char *bytes;

  REQUIRE(nothing != NULL && memory != NULL);
  BIO_set_mem_eof_return(nothing, -1);
  SSL_set_bio(ssl, nothing, memory);
  int result = SSL_connect(ssl);
  REQUIRE(result < 0 && SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ);
  long len = BIO_get_mem_data(memory, &bytes);
  send_all(fd, bytes, (size_t)len);
}

/* Makes one connection. Returns 1 if it resumed `*session`. A new session replaces
   `*session`. */
static int
visit(struct pair *pair, SSL_SESSION **session, enum moment moment, enum leaving leaving, int sees)
{
  char bytes[CHUNK];
  int reused = 0;
  int small  = 4 * CHUNK;
  int fd     = socket(AF_INET, SOCK_STREAM, 0);
  SSL *ssl   = SSL_new(pair->client);

  REQUIRE(fd >= 0 && ssl != NULL);
  set_up(fd);
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) == 0);
  REQUIRE(connect(fd, (struct sockaddr *)&pair->address, sizeof(pair->address)) == 0);
  if (*session != NULL) {
    REQUIRE(SSL_set_session(ssl, *session) == 1);
  }
  if (moment == ASKED) {
    send_client_hello(fd, ssl);
  } else {
    REQUIRE(SSL_set_fd(ssl, fd) == 1);
    REQUIRE(SSL_connect(ssl) == 1);
    reused = SSL_session_reused(ssl);
  }
  if (moment == GREETED || moment == SERVED) {
    REQUIRE(SSL_read(ssl, bytes, 1) == 1);
    /* Keep a copy: the client's OpenSSL does not offer a session again that an alert has ended. */
    SSL_SESSION_free(*session);
    *session = SSL_SESSION_dup(SSL_get_session(ssl));
    REQUIRE(*session != NULL);
  }
  if (moment == SERVED) {
    REQUIRE(SSL_read(ssl, bytes, sizeof(bytes)) > 0);
  }
  leave(pair, fd, ssl, leaving);
  REQUIRE(sem_wait(&pair->over) == 0);
  CHECK_OR(pair->saw != 0 && (pair->saw & ~sees) == 0, "%s: saw %x", pair->way->name, (unsigned)pair->saw);
  SSL_set_quiet_shutdown(ssl, 1);
  SSL_shutdown(ssl);
  ERR_clear_error();
  SSL_free(ssl);
  return reused;
}

/* Makes a connection that ends cleanly. */
static int
visit_cleanly(struct pair *pair, SSL_SESSION **session)
{
  pair->closing = 1;
  int reused    = visit(pair, session, GREETED, CLOSE_NOTIFY, SAW_CLOSE_NOTIFY);
  pair->closing = 0;
  return reused;
}

static void *
run_clients(void *arg)
{
  struct pair *pair     = arg;
  const struct way *way = pair->way;
  int in_handshake      = way->moment == ASKED || way->moment == FINISHED;

  for (int i = 0; i < pair->visitors; i++) {
    SSL_SESSION *session = NULL;
    int reused =
      in_handshake ? visit_cleanly(pair, &session) : visit(pair, &session, way->moment, way->leaving, way->sees);
    CHECK_OR(!reused, "%s: resumed", pair->way->name);
    for (int n = 0; n < RETURNS; n++) {
      if (in_handshake) {
        visit(pair, &session, way->moment, way->leaving, way->sees);
        reused = visit_cleanly(pair, &session);
      } else {
        reused = visit(pair, &session, way->moment, way->leaving, way->sees);
      }
      pair->returned++;
      pair->resumed += reused;
    }
    SSL_SESSION_free(session);
  }
  return NULL;
}

static void
open_pair(struct pair *pair)
{
  socklen_t len                 = sizeof(pair->address);
  int small                     = CHUNK;
  pair->address.sin_family      = AF_INET;
  pair->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  pair->listener                = socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(pair->listener >= 0);
  REQUIRE(setsockopt(pair->listener, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0);
  REQUIRE(bind(pair->listener, (struct sockaddr *)&pair->address, len) == 0 && listen(pair->listener, 16) == 0);
  REQUIRE(getsockname(pair->listener, (struct sockaddr *)&pair->address, &len) == 0);
  REQUIRE(sem_init(&pair->left, 0, 0) == 0 && sem_init(&pair->over, 0, 0) == 0);
}

static SSL_CTX *
attached_server(int version, uint64_t options)
{
  SSL_CTX *server = tls_server(version);
  SSL_CTX_set_options(server, SSL_OP_NO_TICKET | options);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  return server;
}

/* OpenSSL allows old versions only at security level 0. */
static void
allow_old(SSL_CTX *ctx, int version)
{
  if (version < TLS1_2_VERSION) {
    REQUIRE(SSL_CTX_set_cipher_list(ctx, "ALL:@SECLEVEL=0") == 1);
  }
}

static void
check_way(const struct way *way, int version, uint64_t options, int resumes)
{
  struct pair pairs[PAIRS];
  pthread_t servers[PAIRS];
  pthread_t clients[PAIRS];
  SSL_CTX *server = attached_server(version, options);
  SSL_CTX *client = tls_client(version);
  int returned    = 0;
  int resumed     = 0;

  allow_old(server, version);
  allow_old(client, version);
  memset(pairs, 0, sizeof(pairs));
  for (int i = 0; i < PAIRS; i++) {
    pairs[i].server   = server;
    pairs[i].client   = client;
    pairs[i].way      = way;
    pairs[i].polling  = i % 2;
    pairs[i].visitors = check_scaled(CLIENTS / PAIRS);
    open_pair(&pairs[i]);
    REQUIRE(pthread_create(&servers[i], NULL, run_server, &pairs[i]) == 0);
    REQUIRE(pthread_create(&clients[i], NULL, run_clients, &pairs[i]) == 0);
  }
  for (int i = 0; i < PAIRS; i++) {
    REQUIRE(pthread_join(clients[i], NULL) == 0);
    shutdown(pairs[i].listener, SHUT_RDWR);
    REQUIRE(pthread_join(servers[i], NULL) == 0);
    close(pairs[i].listener);
    returned += pairs[i].returned;
    resumed += pairs[i].resumed;
  }
  fprintf(stderr, "TLS 1.%d  %-28s %4d of %d resumed\n", version - TLS1_VERSION, way->name, resumed, returned);
  CHECK(returned > 0);
  if (resumes) {
    CHECK(resumed * 100 >= returned * 99);
  } else {
    CHECK_INT(resumed, 0);
  }
  tls_free(server, client, NULL);
}

/* A host that polls has many connections on a thread, and one error queue. An error of
   one connection in that queue does not explain why another one ends, or the same one
   later. */
static void
check_old_errors(int version)
{
  SSL_CTX *server = attached_server(version, 0);
  SSL_CTX *client = tls_client(version);
  struct tls_connection gone;
  struct tls_connection dropped;
  char byte;

  CHECK_INT(tls_connect(server, client, NULL, &gone), 0);
  CHECK_INT(tls_connect(server, client, NULL, &dropped), 0);
  SSL_SESSION *gone_session    = SSL_get1_session(gone.client);
  SSL_SESSION *dropped_session = SSL_get1_session(dropped.client);

  BIO_shutdown_wr(SSL_get_wbio(gone.client));
  CHECK_INT(SSL_read(gone.server, &byte, 1), 0);
  tls_end(&dropped, TLS_DROP);

  /* The error is still in the queue. */
  const char *data = NULL;
  int flags        = 0;
  CHECK_INT(ERR_GET_REASON(ERR_peek_last_error_all(NULL, NULL, NULL, &data, &flags)),
            SSL_R_UNEXPECTED_EOF_WHILE_READING);
  CHECK_INT(flags & ERR_TXT_STRING, 0);
  CHECK_INT(tls_visit(server, client, dropped_session, TLS_CLEAN, NULL), 0);
  CHECK_INT(tls_visit(server, client, gone_session, TLS_CLEAN, NULL), 1);

  /* Handshakes have cleared the queue. Once more, but now the host itself removes the
     session of the client that has left. */
  SSL_SESSION_free(gone_session);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &gone_session), 0);
  tls_end(&gone, TLS_DROP);
  CHECK_INT(tls_connect(server, client, gone_session, &gone), 1);
  SSL_SESSION *last = SSL_get1_session(gone.client);
  BIO_shutdown_wr(SSL_get_wbio(gone.client));
  CHECK_INT(SSL_read(gone.server, &byte, 1), 0);
  SSL_CTX_remove_session(server, SSL_get_session(gone.server));
  CHECK_INT(tls_visit(server, client, last, TLS_CLEAN, NULL), 0);
  tls_end(&gone, TLS_DROP);
  ERR_clear_error();

  SSL_SESSION_free(last);
  SSL_SESSION_free(gone_session);
  SSL_SESSION_free(dropped_session);
  SSL_CTX_free(server);
  SSL_CTX_free(client);
}

int
main(void)
{
  static const struct way fin         = {"FIN", GREETED, FIN, READ, SAW_EOF};
  static const struct way ignored_fin = {"FIN, which OpenSSL ignores", GREETED, FIN, READ, SAW_CLOSE_NOTIFY};
  static const int versions[]         = {TLS1_2_VERSION, TLS1_3_VERSION};

  signal(SIGPIPE, SIG_IGN);
  api_open();
  for (size_t v = 0; v < COUNT(versions); v++) {
    check_old_errors(versions[v]);
    for (size_t i = 0; i < COUNT(kept); i++) {
      check_way(&kept[i], versions[v], 0, 1);
    }
    for (size_t i = 0; i < COUNT(lost); i++) {
      check_way(&lost[i], versions[v], 0, 0);
    }
    check_way(&ignored_fin, versions[v], SSL_OP_IGNORE_UNEXPECTED_EOF, 1);
  }
  /* TLS 1.1 is the first version that allows this (RFC 4346, 7.2.1). */
  check_way(&fin, TLS1_VERSION, 0, 0);
  check_way(&fin, TLS1_1_VERSION, 0, 1);
  return check_result();
}
