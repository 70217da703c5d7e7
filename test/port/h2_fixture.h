/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/2 session between nghttp2's client and the host of h1_fixture. What the client receives is recorded as text. */
#ifndef SPARX_TEST_H2_FIXTURE_H
#define SPARX_TEST_H2_FIXTURE_H

#include <nghttp2/nghttp2.h>

#include "h1_fixture.h"

struct h2_fixture {
	struct h1_fixture h1; /* first: events, the host's words, the clock */
	nghttp2_session *client;
	struct text seen;
	struct buf sent; /* all that the client ever sent */
	bool deaf;       /* the client's answers (acknowledgements) are not sent */
};

/* options: set in h1.config before the session starts; NULL for none. */
void h2_fixture_start(struct h2_fixture *f, void (*options)(struct config *config));
void h2_fixture_end(struct h2_fixture *f);

/* A request; fields: "name: value\n" each. body: NULL for none; "" for one that comes later. Returns the stream. */
int32_t client_asks(struct h2_fixture *f, const char *method, const char *path, const char *fields, const char *body);
/* CONNECT, to h:1; extended, if protocol is not NULL. client_body sends its bytes. */
int32_t client_connects(struct h2_fixture *f, const char *protocol, const char *path);
/* More of such a body, and its end, with trailers or NULL. */
void client_body(struct h2_fixture *f, int32_t id, const char *data, bool end);
void client_trailers(struct h2_fixture *f, int32_t id, const char *fields);
void client_resets(struct h2_fixture *f, int32_t id);

/* Carries the client's bytes over, and the answers back, until both are silent. */
void talk(struct h2_fixture *f);
/* One way. */
void client_to_server(struct h2_fixture *f);
void server_to_client(struct h2_fixture *f);

#define EXPECT_SEEN(f, wanted) \
	do { \
		talk(f); \
		EXPECT_TEXT(&(f)->seen, wanted); \
	} while (0)

#endif
