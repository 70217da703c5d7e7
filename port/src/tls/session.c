/* SPDX-License-Identifier: Apache-2.0 */
/* A session: one handshake, then one record layer. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tls/parts.h"

enum {
	EMPTY_MAX = 1000, /* records without data that a connection may send, since they cost CPU time and have no effect */
	BARREN_MAX =
		16, /* how many in a row (the library keeps 4 kB for an empty handshake record); bytes of an endless message, */
	BARREN_BYTES = 65536,
	STEPS_MAX = 48, /* records of a handshake after the ClientHello, which may have one byte each */
	HANDSHAKE_BYTES = 131072,
};

struct tls_session {
	gnutls_session_t session;
	struct tls_store *store;
	const struct tls_group *group;
	struct tls_wire wire;
	struct secure facts;
	char alpn[16];
	char *name;      /* that the client asked for; empty: none */
	unsigned empty;  /* records without data */
	unsigned barren; /* of these, since the last data; handshake records since the answer */
	size_t pulled;   /* bytes since the last data, or since the handshake began */
	bool answered;   /* our flight was sent */
	bool starved;    /* the wire has no bytes now */
	bool quic;       /* without records */
	uint8_t *client; /* the client's certificate, after the library's session was freed */
	int error;       /* the library's error: why it failed */
};

/* ---- the wire ---- */

static ssize_t pull(gnutls_transport_ptr_t ctx, void *bytes, size_t n)
{
	struct tls_session *s = ctx;
	ssize_t got = s->wire.pull(s->wire.ctx, bytes, n);

	s->starved = got < 0;
	s->pulled += got > 0 ? (size_t)got : 0;
	if (got < 0)
		gnutls_transport_set_errno(s->session, errno);
	return got;
}

static ssize_t push(gnutls_transport_ptr_t ctx, const giovec_t *iov, int count)
{
	struct tls_session *s = ctx;
	ssize_t sent = s->wire.push(s->wire.ctx, iov, count);

	s->answered = true;
	if (sent < 0)
		gnutls_transport_set_errno(s->session, EIO);
	return sent;
}

/* The wire never waits: pull reports when there are no bytes. */
static int there_is_something(gnutls_transport_ptr_t ctx, unsigned ms)
{
	(void)ctx;
	(void)ms;
	return 1;
}

/* ---- beginning and end ---- */

static bool offer_alpn(struct tls_session *s)
{
	gnutls_datum_t list[TLS_ALPN_MAX];
	const struct tls_store *store = s->store;

	for (unsigned i = 0; i < store->alpn_count; i++)
		list[i] = tls_datum(slice_str(store->alpn[i]));
	return store->alpn_count == 0 || gnutls_alpn_set_protocols(s->session, list, store->alpn_count,
								   GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE) == 0;
}

/* Settings of all handshakes. */
static bool prepare_any(struct tls_session *s, gnutls_priority_t priority, unsigned flags)
{
	static const gnutls_certificate_request_t ask[] = {
		[TLS_CLIENT_UNASKED] = GNUTLS_CERT_IGNORE,
		[TLS_CLIENT_ASKED] = GNUTLS_CERT_REQUEST,
		[TLS_CLIENT_REQUIRED] = GNUTLS_CERT_REQUIRE,
	};

	flags |= GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_AUTO_SEND_TICKET;
	if (!s->store->tickets)
		flags |= GNUTLS_NO_TICKETS;
	if (!priority || gnutls_init(&s->session, flags) < 0 || gnutls_priority_set(s->session, priority) < 0)
		return false;
	if (s->group && gnutls_credentials_set(s->session, GNUTLS_CRD_CERTIFICATE, s->group->credentials) < 0)
		return false;
	gnutls_certificate_server_set_request(s->session, ask[s->store->client]);
	gnutls_handshake_set_max_packet_length(s->session, TLS_HELLO_MAX);
	return tls_ticket_enable(s->session, s->store, s->name, s->quic);
}

static bool prepare(struct tls_session *s)
{
	if (!prepare_any(s, s->store->priority, 0))
		return false;
	gnutls_transport_set_ptr(s->session, s);
	gnutls_transport_set_pull_function(s->session, pull);
	gnutls_transport_set_pull_timeout_function(s->session, there_is_something);
	gnutls_transport_set_vec_push_function(s->session, push);
	return offer_alpn(s);
}

/* The library accepts a client that offers no protocol at all. */
static int require_h3(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming, const gnutls_datum_t *message)
{
	gnutls_datum_t alpn;

	(void)type;
	(void)when;
	(void)incoming;
	(void)message;
	return gnutls_alpn_get_selected_protocol(session, &alpn) == 0 ? 0 : GNUTLS_E_NO_APPLICATION_PROTOCOL;
}

/* There is no certificate for the name: RFC 6066 3. */
static int refuse_name(gnutls_session_t session, unsigned type, unsigned when, unsigned incoming, const gnutls_datum_t *message)
{
	(void)session;
	(void)type;
	(void)when;
	(void)incoming;
	(void)message;
	return GNUTLS_E_UNRECOGNIZED_NAME;
}

static bool prepare_quic(struct tls_session *s, void *ctx)
{
	gnutls_datum_t h3 = tls_datum(SLICE_LIT("h3"));

	s->quic = true;
	if (!prepare_any(s, tls_store_quic_priority(s->store), GNUTLS_NO_END_OF_EARLY_DATA))
		return false;
	gnutls_session_set_ptr(s->session, ctx);
	gnutls_handshake_set_hook_function(s->session, GNUTLS_HANDSHAKE_CLIENT_HELLO, GNUTLS_HOOK_POST,
					   s->group ? require_h3 : refuse_name);
	return gnutls_alpn_set_protocols(s->session, &h3, 1, GNUTLS_ALPN_MANDATORY | GNUTLS_ALPN_SERVER_PRECEDENCE) == 0;
}

static struct tls_session *session_new(struct tls_store *store, const char *name)
{
	struct tls_session *s = calloc(1, sizeof *s);

	if (!s)
		return NULL;
	s->store = tls_store_keep(store);
	s->group = tls_store_find(store, name);
	s->name = strdup(name);
	if (s->name)
		return s;
	tls_session_free(s);
	return NULL;
}

struct tls_session *tls_session_new(struct tls_store *store, const char *name, const struct tls_wire *wire)
{
	struct tls_session *s = session_new(store, name);

	if (!s)
		return NULL;
	s->wire = *wire;
	if (prepare(s))
		return s;
	tls_session_free(s);
	return NULL;
}

struct tls_session *tls_session_for_quic(struct tls_store *store, const char *name, void *ctx)
{
	struct tls_session *s = session_new(store, name);

	if (s && prepare_quic(s, ctx))
		return s;
	tls_session_free(s);
	return NULL;
}

void *tls_session_native(struct tls_session *s)
{
	return s->session;
}

void tls_session_free(struct tls_session *s)
{
	if (!s)
		return;
	if (s->session)
		gnutls_deinit(s->session);
	tls_store_drop(s->store);
	free(s->client);
	free(s->name);
	free(s);
}

/* Sends an alert, unless the peer has sent one. */
static enum tls_outcome fail(struct tls_session *s, int error)
{
	bool first = s->error == 0;

	s->error = error;
	if (first && error != GNUTLS_E_FATAL_ALERT_RECEIVED)
		gnutls_alert_send_appropriate(s->session, error);
	return TLS_FAILED;
}

/* ---- the handshake ---- */

/* IANA's number of the suite, which the library reveals only in its list of suites. */
static unsigned suite_number(gnutls_session_t session, bool is_13)
{
	gnutls_cipher_algorithm_t cipher, wanted = gnutls_cipher_get(session);
	gnutls_kx_algorithm_t kx;
	gnutls_mac_algorithm_t mac;
	gnutls_protocol_t version;
	unsigned char id[2];

	for (size_t i = 0; gnutls_cipher_suite_info(i, id, &kx, &cipher, &mac, &version); i++) {
		bool same = cipher == wanted && (version == GNUTLS_TLS1_3) == is_13;
		if (same && (is_13 || (kx == gnutls_kx_get(session) && mac == gnutls_mac_get(session))))
			return (unsigned)id[0] << 8 | id[1];
	}
	return 0;
}

static void note_facts(struct tls_session *s)
{
	gnutls_datum_t alpn = {NULL, 0};
	struct secure *f = &s->facts;

	f->version = gnutls_protocol_get_version(s->session) == GNUTLS_TLS1_3 ? 13 : 12;
	f->cipher = suite_number(s->session, f->version == 13);
	f->resumed = gnutls_session_is_resumed(s->session);
	f->sni = *s->name ? slice_str(s->name) : (struct slice){0};
	f->client = tls_peer_certificate(s->session);
	if (gnutls_alpn_get_selected_protocol(s->session, &alpn) == 0 && alpn.size < sizeof s->alpn) {
		memcpy(s->alpn, alpn.data, alpn.size);
		f->alpn = slice_of(s->alpn, alpn.size);
	}
}

/* A client of TLS 1.3 accepts a ticket at any time; after its Finished it does not delay the first request. */
static void send_ticket(struct tls_session *s)
{
	if (s->store->tickets && s->facts.version == 13)
		gnutls_session_ticket_send(s->session, 1, 0);
}

void tls_session_shaken(struct tls_session *s)
{
	note_facts(s);
	send_ticket(s);
}

void tls_session_shrink(struct tls_session *s)
{
	struct slice client = s->facts.client;

	if (!s->session)
		return;
	s->client = client.len ? malloc(client.len) : NULL;
	s->facts.client = s->client ? slice_of(s->client, client.len) : (struct slice){0};
	if (s->client)
		memcpy(s->client, client.at, client.len);
	gnutls_deinit(s->session);
	s->session = NULL;
}

enum tls_outcome tls_session_handshake(struct tls_session *s)
{
	int error;

	if (!s->group) { /* there is no certificate for that name */
		gnutls_alert_send(s->session, GNUTLS_AL_FATAL, GNUTLS_A_UNRECOGNIZED_NAME);
		s->error = GNUTLS_E_UNRECOGNIZED_NAME;
		return TLS_FAILED;
	}
	while ((error = gnutls_handshake(s->session)) != 0) {
		if (gnutls_error_is_fatal(error))
			return error == GNUTLS_E_PREMATURE_TERMINATION ? TLS_EOF : fail(s, error);
		if (s->pulled > HANDSHAKE_BYTES)
			return fail(s, GNUTLS_E_UNEXPECTED_PACKET);
		if (s->starved)
			return TLS_AGAIN;
		s->barren += s->answered;
		if (s->barren > STEPS_MAX)
			return fail(s, GNUTLS_E_UNEXPECTED_PACKET);
	}
	s->barren = 0;
	s->pulled = 0;
	tls_session_shaken(s);
	return TLS_DONE;
}

/* ---- records ---- */

enum tls_outcome tls_session_read(struct tls_session *s, void *bytes, size_t size, size_t *n)
{
	ssize_t got;

	for (;;) {
		got = gnutls_record_recv(s->session, bytes, size);
		if (got > 0) {
			*n = (size_t)got;
			s->barren = 0;
			s->pulled = 0;
			return TLS_DONE;
		}
		if (got == 0 || got == GNUTLS_E_PREMATURE_TERMINATION)
			return TLS_EOF;
		if (got == GNUTLS_E_REHANDSHAKE) /* a ClientHello of TLS 1.2 */
			got = GNUTLS_E_UNEXPECTED_PACKET;
		if (gnutls_error_is_fatal((int)got))
			return fail(s, (int)got);
		if (s->pulled > BARREN_BYTES)
			return fail(s, GNUTLS_E_UNEXPECTED_PACKET);
		if (s->starved)
			return TLS_AGAIN;
		if (++s->empty > EMPTY_MAX || ++s->barren > BARREN_MAX)
			return fail(s, GNUTLS_E_TOO_MANY_EMPTY_PACKETS);
	}
}

bool tls_session_pending(const struct tls_session *s)
{
	return gnutls_record_check_pending(s->session) > 0;
}

size_t tls_session_write(struct tls_session *s, const void *bytes, size_t n, size_t record)
{
	ssize_t sent = gnutls_record_send(s->session, bytes, n < record ? n : record);

	if (sent < 0)
		s->error = (int)sent;
	return sent < 0 ? 0 : (size_t)sent;
}

void tls_session_bye(struct tls_session *s)
{
	gnutls_bye(s->session, GNUTLS_SHUT_WR);
}

/* ---- results ---- */

const struct secure *tls_session_facts(const struct tls_session *s)
{
	return &s->facts;
}

bool tls_session_covers(const struct tls_session *s, struct slice host)
{
	char name[TLS_NAME_MAX];

	if (!*s->name || slice_eq_nocase(slice_str(s->name), host))
		return true;
	if (host.len >= sizeof name)
		return false;
	for (size_t i = 0; i < host.len; i++)
		name[i] = (char)(host.at[i] >= 'A' && host.at[i] <= 'Z' ? host.at[i] + 'a' - 'A' : host.at[i]);
	name[host.len] = 0;
	return tls_store_covers(s->store, s->group, name);
}

const char *tls_session_why(const struct tls_session *s)
{
	return gnutls_strerror(s->error);
}

const char *tls_alert_name(unsigned number)
{
	const char *name = gnutls_alert_get_name((gnutls_alert_description_t)number);

	return name ? name : "unknown alert";
}
