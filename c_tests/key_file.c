/** @file

  Ticket keys from files and calls: the latest update is active.

  SPDX-License-Identifier: Apache-2.0
 */

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "api.h"
#include "check.h"
#include "folder.h"
#include "tls.h"

#define KEY 48

static SSL_CTX *server;
static SSL_CTX *client;

/* Writes a file with keys. Each letter names one. */
static void
write_keys(const char *name, const char *letters, size_t len, mode_t mode)
{
  char keys[8 * KEY] = {0};
  for (size_t i = 0; letters[i] != '\0'; i++) {
    memset(keys + i * KEY, letters[i], KEY);
  }
  folder_write(name, keys, len, mode);
}

static void
update(char letter)
{
  char key[KEY];
  memset(key, letter, sizeof(key));
  TSSslTicketKeyUpdate(key, sizeof(key));
}

/* Returns whether a new ticket (RFC 5077, 4: name, initialization vector, encrypted state, HMAC) is
   encrypted with this key. */
static int
ticket_is_under(const unsigned char *name, const unsigned char *aes, const unsigned char *hmac, size_t secret_len)
{
  SSL_SESSION *session        = NULL;
  const unsigned char *ticket = NULL;
  unsigned char mac[32], state[4096];
  size_t len       = 0;
  int state_len    = 0;
  unsigned mac_len = 0;
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  SSL_SESSION_get0_ticket(session, &ticket, &len);
  REQUIRE(len > 64 && len < sizeof(state));
  HMAC(EVP_sha256(), hmac, (int)secret_len, ticket, len - 32, mac, &mac_len);
  EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
  EVP_DecryptInit_ex(cipher, secret_len == 32 ? EVP_aes_256_cbc() : EVP_aes_128_cbc(), NULL, aes, ticket + 16);
  EVP_DecryptUpdate(cipher, state, &state_len, ticket + 32, (int)len - 64);
  EVP_CIPHER_CTX_free(cipher);
  /* The state is a session in DER, so it begins with a sequence. */
  int is_under =
    memcmp(ticket, name, 16) == 0 && memcmp(ticket + len - 32, mac, 32) == 0 && state_len > 0 && state[0] == 0x30;
  SSL_SESSION_free(session);
  return is_under;
}

static char active[300];

/* Keeps the line that describes the active keys. */
static void
note_line(TSCont contp, int level, const char *tag, const char *line)
{
  (void)contp, (void)tag;
  if (strstr(line, "active keys: ") != NULL) {
    CHECK_INT(level, TS_SSL_SESSION_CACHE_LOG_DEBUG);
    snprintf(active, sizeof(active), "%s", strstr(line, "active keys: "));
  }
}

/* A line reports the number and the format of the active keys. */
static void
check_said(void)
{
  static const struct {
    size_t len;
    const char *line;
  } files[] = {
    {48, "active keys: 1, of 48 bytes as in ATS"},
    {80, "active keys: 1, of 80 bytes as in nginx"},
    {65, "active keys: 1, of 48 bytes in base64, as in HAProxy"},
    {109, "active keys: 1, of 80 bytes in base64, as in HAProxy"},
  };
  unsigned char key[80], content[110];
  CHECK_INT(TSSslSessionCacheLogSet(note_line, NULL, TS_SSL_SESSION_CACHE_LOG_DEBUG), TS_SUCCESS);
  for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
    memset(key, (int)i + 1, sizeof(key));
    memset(content, (int)i + 1, sizeof(content));
    if (i >= 2) {
      int len      = EVP_EncodeBlock(content, key, i == 2 ? 48 : 80);
      content[len] = '\n';
    }
    folder_write("layout", content, files[i].len, 0600);
    CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
    CHECK(strcmp(active, files[i].line) == 0);
  }
  update('u');
  CHECK(strcmp(active, files[0].line) == 0);
  CHECK_INT(TSSslSessionCacheLogSet(NULL, NULL, TS_SSL_SESSION_CACHE_LOG_WARNING), TS_SUCCESS);
}

static void
check_refused(const void *content, size_t len)
{
  update('q');
  folder_write("layout", content, len, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_ERROR);
  CHECK_INT(tls_key_letter(server, client), 'q');
}

/* Text with the length of keys, or nearly so. */
static void
check_text(void)
{
  char text[3 + 14 * KEY], wide[2 * sizeof(text)];
  unsigned char key[2 * KEY], line[2 * KEY];

  memset(text, 'M', sizeof(text));
  memcpy(text, "-----BEGIN CERTIFICATE-----\n", 28);
  for (size_t i = 28 + 64; i < 14 * KEY; i += 65) {
    text[i] = '\n';
  }
  check_refused(text, 14 * KEY);
  text[100] = (char)0xe9;
  check_refused(text, 14 * KEY);
  for (size_t i = 0; i < 14 * KEY; i++) {
    wide[2 * i]     = text[i];
    wide[2 * i + 1] = '\0';
  }
  check_refused(wide, (size_t)2 * 14 * KEY);
  for (size_t i = 0; i < 2 * (size_t)KEY; i++) {
    text[i] = "0123456789abcdef"[i % 16];
  }
  check_refused(text, (size_t)2 * KEY);

  /* Keys with a line break behind them. */
  memset(key, 0xf5, sizeof(key));
  key[KEY] = '\n';
  check_refused(key, KEY + 1);
  key[KEY] = 0xf5;
  key[80]  = '\n';
  check_refused(key, 80 + 1);

  /* Lines of base64 behind a byte order mark, which an editor can add. */
  for (size_t i = 0; i < KEY; i++) {
    key[i] = (unsigned char)(i + 1);
  }
  memcpy(line, "\xef\xbb\xbf", 3);
  EVP_EncodeBlock(line + 3, key, KEY);
  memcpy(line + 3 + 64, "\r\n", 2);
  folder_write("layout", line, 3 + 64 + 2, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
  CHECK(ticket_is_under(key, key + 16, key + 32, 16));

  /* As the manual of ATS makes them: letters without a line break. */
  memset(line, 'Q', KEY);
  folder_write("layout", line, KEY, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'Q');
}

/* Keys of 80 bytes, and lines of base64 as in HAProxy. */
static void
check_other_layouts(void)
{
  unsigned char key[5 * KEY];
  for (size_t i = 0; i < sizeof(key); i++) {
    key[i] = (unsigned char)(i + 1);
  }
  folder_write("layout", key, KEY, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
  CHECK(ticket_is_under(key, key + 32, key + 16, 16));

  SSL_SESSION *session = NULL;
  folder_write("layout", key, 80, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
  CHECK(ticket_is_under(key, key + 48, key + 16, 32));
  CHECK_INT(api_stat(STAT_KEYS), 1);
  CHECK_INT(tls_visit(server, client, NULL, TLS_CLEAN, &session), 0);
  CHECK_INT(tls_visit(server, client, session, TLS_CLEAN, NULL), 1);
  SSL_SESSION_free(session);

  folder_write("layout", key, 160, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_KEYS), 2);
  CHECK(ticket_is_under(key, key + 48, key + 16, 32));

  /* This length fits three keys of 80 bytes and five of 48: then they are keys of 48 bytes. A call takes
     only these. */
  folder_write("layout", key, 240, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_KEYS), 5);
  CHECK(ticket_is_under(key, key + 32, key + 16, 16));
  update('z');
  TSSslTicketKeyUpdate((char *)key, 80);
  CHECK_INT(api_stat(STAT_KEYS), 1);
  CHECK(ticket_is_under(key, key + 32, key + 16, 16));

  /* Of three lines, the one in the middle encrypts. */
  for (int len = KEY; len <= 80; len += 80 - KEY) {
    unsigned char lines[3 * 110] = "", *end = lines;
    for (unsigned char i = 0; i < 3; i++) {
      key[0] = (unsigned char)('a' + i);
      end += EVP_EncodeBlock(end, key, len);
      *end++ = '\n';
    }
    key[0] = 'b';
    folder_write("layout", lines, (size_t)(end - lines), 0600);
    CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_SUCCESS);
    CHECK_INT(api_stat(STAT_KEYS), 3);
    CHECK(ticket_is_under(key, key + 16, key + 16 + (len - 16) / 2, (size_t)(len - 16) / 2));
  }

  /* A damaged file of lines is refused: its letters are not taken as keys. */
  unsigned char lines[2 * 66] = "";
  EVP_EncodeBlock(lines, key, KEY);
  EVP_EncodeBlock(lines + 65, key + KEY, KEY);
  lines[64] = lines[129] = '\n';
  lines[100]             = '!';
  write_keys("before", "q", KEY, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("before")), TS_SUCCESS);
  folder_write("layout", lines, 130, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("layout")), TS_ERROR);
  CHECK_INT(tls_key_letter(server, client), 'q');
  CHECK_INT(unlink(in_folder("before")), 0);
  check_text();
  check_said();
  CHECK_INT(unlink(in_folder("layout")), 0);
}

int
main(void)
{
  api_open();
  folder_make();
  server = tls_server(TLS1_2_VERSION);
  client = tls_client(TLS1_2_VERSION);

  /* No file is configured. */
  CHECK_INT(TSSslTicketKeyFileLoad(NULL), TS_ERROR);

  /* The keys of the configured file are active from the first Attach on. */
  write_keys("keys", "a", KEY, 0600);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.cert.path", folder), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheConfigSet("proxy.config.ssl.server.ticket_key.filename", "keys"), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'a');
  CHECK_INT(api_stat(STAT_KEYS_RENEWED), 1);

  /* An unchanged file is not read again, by any of its names that was used before. */
  CHECK_INT(TSSslTicketKeyFileLoad(NULL), TS_SUCCESS);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("keys")), TS_SUCCESS);
  CHECK_INT(api_stat(STAT_KEYS_RENEWED), 1);

  /* Keys of a call replace those of the file, and a reload of the unchanged file does not bring them back. */
  update('b');
  CHECK_INT(TSSslTicketKeyFileLoad(NULL), TS_SUCCESS);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("keys")), TS_SUCCESS);
  CHECK_INT(TSSslSessionCacheAttach((TSSslContext)server), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'b');

  /* A changed file replaces them. */
  write_keys("keys", "ca", 2 * KEY, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(NULL), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'c');
  CHECK_INT(TSSslTicketKeyFileLoad(NULL), TS_SUCCESS);

  /* So does another file. If others can read it, it is used with a warning. */
  write_keys("other", "d", KEY, 0644);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("other")), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'd');

  /* Back to the previous file, unchanged, by another name. */
  REQUIRE(symlink("keys", in_folder("link")) == 0);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("link")), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'c');

  /* A link is changed to another file and back. */
  for (int i = 0; i < 4; i++) {
    CHECK_INT(unlink(in_folder("link")), 0);
    REQUIRE(symlink(i % 2 == 0 ? "other" : "keys", in_folder("link")) == 0);
    CHECK_INT(TSSslTicketKeyFileLoad(in_folder("link")), TS_SUCCESS);
    CHECK_INT(tls_key_letter(server, client), i % 2 == 0 ? 'd' : 'c');
  }
  /* Keys of a call replace those of the last file, by any of its names. */
  update('b');
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("link")), TS_SUCCESS);
  CHECK_INT(TSSslTicketKeyFileLoad(NULL), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'b');
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("other")), TS_SUCCESS);

  /* Refused files do not change the active keys. */
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("absent")), TS_ERROR);
  CHECK_INT(TSSslTicketKeyFileLoad(""), TS_ERROR);
  CHECK_INT(TSSslTicketKeyFileLoad(folder), TS_ERROR);
  CHECK_INT(TSSslTicketKeyFileLoad("/dev/zero"), TS_ERROR);
  REQUIRE(mkfifo(in_folder("fifo"), 0600) == 0);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("fifo")), TS_ERROR);
  write_keys("short", "e", KEY - 1, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("short")), TS_ERROR);
  write_keys("empty", "", 0, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("empty")), TS_ERROR);
  write_keys("blank", "", KEY, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("blank")), TS_ERROR);
  CHECK_INT(tls_key_letter(server, client), 'd');

  /* A refused file is read again when it was corrected. */
  write_keys("short", "e", KEY, 0600);
  CHECK_INT(TSSslTicketKeyFileLoad(in_folder("short")), TS_SUCCESS);
  CHECK_INT(tls_key_letter(server, client), 'e');

  check_other_layouts();

  static const char *const names[] = {"keys", "other", "fifo", "short", "empty", "blank", "link"};
  folder_remove(names, sizeof(names) / sizeof(names[0]));
  tls_free(server, client, NULL);
  return check_result();
}
