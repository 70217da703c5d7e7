/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/3 server on a real socket, whose loop turns only when the test says so, and ngtcp2's client, which can be made to send
 * anything: planted frames replace the contents of a packet. What the client sees is recorded as text.
 */
#ifndef SPARX_TEST_QUIC_FIXTURE_H
#define SPARX_TEST_QUIC_FIXTURE_H

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <nghttp3/nghttp3.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include "h1_fixture.h"
#include "quic/parts.h"

struct quic_server {
	struct h1_fixture h1; /* events, the host's words; its session is not used */
	struct loop loop;
	struct conn_pool pool;
	struct tls_store *store;
	struct quic *quic;
	uint16_t port;
};

struct quic_client {
	struct quic_server *server; /* whose turns quic_talk makes */
	int fd;
	struct sockaddr_in local, remote;
	ngtcp2_conn *ng;
	ngtcp2_crypto_conn_ref ref;
	gnutls_session_t tls;
	gnutls_certificate_credentials_t credentials;
	nghttp3_conn *h3;
	struct text seen;
	bool shaken, over;
	int64_t next;
	uint8_t plant[1200]; /* frames for the next packet of 1-RTT that has room for them; */
	size_t planted;      /* number of their bytes; 0: none */
	bool planted_early;  /* for an Initial packet instead */
	size_t sent, got;    /* bytes in packets */
	unsigned packets;    /* that came */
	const char *alpn;    /* NULL: none is offered */
	const char *name;    /* SNI */
	bool doubtful;       /* it rejects the server's certificate */
	size_t path_max;     /* longer packets never arrive; 0: all do */
	size_t largest;      /* packet that arrived */
	size_t body;         /* bytes of bodies that came */
	uint8_t token[256];  /* a token from the server, or for it */
	size_t token_len;
	uint32_t version;
	uint64_t idle; /* ns: its idle timeout; 0: none */
};

void quic_server_start(struct quic_server *s, void (*options)(struct config *config));
void quic_server_stop(struct quic_server *s);
/* One turn of its loop. */
void quic_server_turn(struct quic_server *s);

/* A client that has not sent anything. */
void quic_client_init(struct quic_client *c, struct quic_server *s);
/* The same for a server at this port of 127.0.0.1 whose loop runs by itself: quic_talk does not apply. */
void quic_client_init_at(struct quic_client *c, uint16_t port);
/* Reads what has arrived, and writes what there is to send. True if there was something to read. */
bool quic_client_goes_on(struct quic_client *c);
/* Its first packet, with whatever was planted before. */
void quic_client_begin(struct quic_client *c);
void quic_client_free(struct quic_client *c);
/* GET, or POST with a body that stays in place; returns the stream. */
int64_t quic_client_gets(struct quic_client *c, const char *path);
int64_t quic_client_posts(struct quic_client *c, const char *path, struct slice *body);
/* Sends only these frames. */
void quic_client_plants(struct quic_client *c, const void *frames, size_t n);
/* From now on it sends from another address. */
void quic_client_moves(struct quic_client *c);
/* A raw datagram. */
void quic_client_throws(struct quic_client *c, const void *bytes, size_t n);

/* Runs both until nothing is in flight, except what timers will cause. */
void quic_talk(struct quic_client *c);
/* The same until the condition is true, at most 10 s. */
#define QUIC_AWAIT(c, what) \
	do { \
		uint64_t until_ = quic_clock() + 10 * NGTCP2_SECONDS; \
		while (!(what)) { \
			if (quic_clock() > until_) \
				fail_msg("%s:%d: waited in vain: %s", __FILE__, __LINE__, #what); \
			quic_talk(c); \
		} \
	} while (0)
uint64_t quic_clock(void);

#endif
