/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS: a client's bytes over a socket of this process. The first byte says of what kind:
 *   even  the rest are the client's bytes, given in pieces: a length, and so many bytes
 *   odd   a real client speaks, whose bytes on the wire are changed: a position (2 bytes) and what is added there, again and again
 */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frames/mp.h"
#include "parts/rig.h"
#include "parts/target.h"
#include "transport/tls.h"

enum { EDITS_MAX = 64, TURNS = 12, PEM_MAX = 8192 };

static uint64_t now = 1000;
static struct transport_tls shared = {.now = &now};

static struct {
	gnutls_session_t session;
	gnutls_certificate_credentials_t credentials;
	int fd;
	size_t sent;
	struct {
		unsigned at;
		uint8_t add;
	} edits[EDITS_MAX];
	unsigned count;
} client;

/* ---- the listener's certificate: made here, so that no file is needed ---- */

static uint8_t *put(uint8_t *at, const char *key, const void *bytes, size_t n)
{
	return mp_bin(mp_str(at, slice_str(key)), slice_of(bytes, n));
}

static void certify(void)
{
	static uint8_t map[2 * PEM_MAX + 64], chain[PEM_MAX], secret[PEM_MAX];
	size_t chain_len = sizeof chain, secret_len = sizeof secret;
	gnutls_x509_privkey_t key = NULL;
	gnutls_x509_crt_t crt = NULL;
	struct config_fault fault;
	uint8_t *at = map;

	MUST(tls_start() && gnutls_x509_privkey_init(&key) == 0 && gnutls_x509_crt_init(&crt) == 0);
	MUST(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) == 0);
	MUST(gnutls_x509_crt_set_dn(crt, "CN=a", NULL) == 0 && gnutls_x509_crt_set_serial(crt, "\1", 1) == 0);
	MUST(gnutls_x509_crt_set_version(crt, 3) == 0 && gnutls_x509_crt_set_key(crt, key) == 0);
	gnutls_x509_crt_set_activation_time(crt, 0);
	gnutls_x509_crt_set_expiration_time(crt, (time_t)1 << 33);
	MUST(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) == 0);
	MUST(gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, chain, &chain_len) == 0);
	MUST(gnutls_x509_privkey_export(key, GNUTLS_X509_FMT_PEM, secret, &secret_len) == 0);
	at = mp_map(at, 1);
	at = mp_array(mp_str(at, SLICE_LIT("certificates")), 1);
	at = mp_map(at, 2);
	at = put(at, "chain", chain, chain_len);
	at = put(at, "key", secret, secret_len);
	shared.store = tls_store_read(slice_of(map, (size_t)(at - map)), &fault);
	MUST(shared.store);
	gnutls_x509_crt_deinit(crt);
	gnutls_x509_privkey_deinit(key);
	gnutls_certificate_allocate_credentials(&client.credentials);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- the server's end ---- */

static struct {
	int fd;
	void *state;
	bool shaken, over;
} server;

static void judge(struct io_result r)
{
	MUST(r.status != IO_AGAIN || r.until);
	MUST(r.status != IO_ERROR || r.error);
	server.over = r.status == IO_ERROR || r.status == IO_EOF;
}

/* Like a connection: a handshake, then an echo; at the end it lingers. */
static void serve(void)
{
	const struct transport_ops *ops = &transport_tls_ops;
	uint8_t bytes[3000];
	struct io_result r;

	if (!server.shaken && !server.over) {
		r = ops->handshake(server.fd, server.state);
		judge(r);
		server.shaken = r.status == IO_OK;
		if (server.shaken)
			MUST(ops->secure(server.state)->version >= 12);
	}
	while (server.shaken && !server.over) {
		struct iovec iov = {bytes, 0};
		r = ops->read(server.fd, server.state, bytes, sizeof bytes);
		judge(r);
		if (r.status != IO_OK)
			break;
		MUST(r.n > 0 && r.n <= sizeof bytes);
		iov.iov_len = r.n;
		r = ops->writev(server.fd, server.state, &iov, 1);
		MUST(r.status != IO_OK || (r.n > 0 && r.n <= iov.iov_len));
	}
	if (server.over) {
		ops->shutdown(server.fd, server.state);
		ops->read(server.fd, server.state, bytes, sizeof bytes);
	}
}

static void open_both(void)
{
	int fds[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	server.fd = fds[0];
	client.fd = fds[1];
	server.shaken = server.over = false;
	server.state = transport_tls_open(&shared);
	MUST(server.state);
}

static void close_both(void)
{
	close(client.fd);
	serve();
	transport_tls_ops.close(server.fd, server.state, false);
}

/* ---- the client's ---- */

static void raw(struct input *in)
{
	struct tls_hello hello = {.alert = 0};
	enum tls_first first = TLS_FIRST_MORE;
	uint8_t *copy = malloc(in->left + 1);
	size_t n = 0;

	MUST(copy);
	while (in->left) {
		struct slice piece = input_bytes(in, input_byte(in));
		if (piece.len)
			memcpy(copy + n, piece.at, piece.len);
		n += piece.len;
		if (first == TLS_FIRST_MORE) /* otherwise it stays unchanged */
			first = tls_first_bytes(copy, n, &hello);
		MUST(strlen(hello.name) < sizeof hello.name);
		MUST(first == TLS_FIRST_WRONG || !hello.alert);
		if (write(client.fd, piece.at, piece.len) < 0)
			break;
		serve();
	}
	free(copy);
}

static ssize_t push(gnutls_transport_ptr_t ctx, const void *bytes, size_t n)
{
	uint8_t *copy = malloc(n);

	(void)ctx;
	MUST(copy);
	memcpy(copy, bytes, n);
	for (unsigned i = 0; i < client.count; i++)
		if (client.edits[i].at >= client.sent && client.edits[i].at < client.sent + n)
			copy[client.edits[i].at - client.sent] += client.edits[i].add;
	client.sent += n;
	if (write(client.fd, copy, n) < 0)
		client.sent += 0; /* the server accepts no more */
	free(copy);
	return (ssize_t)n;
}

static void changed(struct input *in)
{
	char bytes[4096];
	int shaken = GNUTLS_E_AGAIN;

	for (client.count = 0, client.sent = 0; client.count < EDITS_MAX && in->left >= 3; client.count++) {
		client.edits[client.count].at = (unsigned)input_byte(in) << 8;
		client.edits[client.count].at |= input_byte(in);
		client.edits[client.count].add = input_byte(in);
	}
	MUST(gnutls_init(&client.session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) == 0);
	gnutls_set_default_priority(client.session);
	gnutls_credentials_set(client.session, GNUTLS_CRD_CERTIFICATE, client.credentials);
	gnutls_server_name_set(client.session, GNUTLS_NAME_DNS, "a", 1);
	gnutls_transport_set_int(client.session, client.fd);
	gnutls_transport_set_push_function(client.session, push);
	for (unsigned i = 0; i < TURNS; i++) {
		if (shaken == GNUTLS_E_AGAIN)
			shaken = gnutls_handshake(client.session);
		serve();
		if (shaken == 0)
			gnutls_record_send(client.session, "some of what a client says", 26);
		serve();
		while (shaken == 0 && gnutls_record_recv(client.session, bytes, sizeof bytes) > 0)
			;
	}
	if (client.count == 0)
		MUST(shaken == 0 && server.shaken);
	gnutls_deinit(client.session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	bool odd;

	if (!shared.store)
		certify();
	odd = input_byte(&in) & 1;
	open_both();
	if (odd)
		changed(&in);
	else
		raw(&in);
	close_both();
	return 0;
}
