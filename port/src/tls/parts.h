/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations that the parts of tls/ share; only tls/ uses the library. */
#ifndef SPARX_TLS_PARTS_H
#define SPARX_TLS_PARTS_H

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "tls/tls.h"

/* ---- store.c ---- */

enum { TLS_ALPN_MAX = 4, TLS_KINDS_MAX = 4, TLS_CHAIN_MAX = 16 };

/* A group: certificates with keys of different kinds for the same names, of which a client gets one. */
struct tls_group {
	gnutls_certificate_credentials_t credentials;
	unsigned members[TLS_KINDS_MAX]; /* numbers of certificates */
	unsigned member_count;
};

/* A name of a certificate, in lower case; "*.example.com" matches one label. */
struct tls_claim {
	char *name;
	unsigned certificate;
};

struct tls_name {
	const char *name;
	struct tls_group *group;
	const struct tls_claim *claims; /* all certificates for it */
	unsigned claim_count;
};

struct tls_store {
	unsigned users;
	unsigned certificate_count;
	struct tls_group **groups;
	unsigned group_count;
	struct tls_claim *claims; /* sorted by name */
	unsigned claim_count;
	struct tls_name *names; /* the same */
	unsigned name_count;
	struct tls_group *standard; /* for clients that name no server, or an unknown one */
	gnutls_priority_t priority;
	gnutls_priority_t quic_priority; /* made for the first session that needs it */
	char alpn[TLS_ALPN_MAX][16];
	unsigned alpn_count;
	unsigned min, max; /* versions: 12, 13 */
	unsigned ciphers;  /* 1: also those for older clients */
	unsigned client;   /* enum tls_client */
	bool strict_sni;
	bool trial;
	gnutls_datum_t client_ca; /* undecoded */
	bool tickets;
	bool own_secret;                /* the secret came from the host */
	uint8_t secret[TLS_TICKET_KEY]; /* of tickets */
	uint8_t rules[64];        /* a digest of the rules for client certificates: a ticket is valid only under the same rules */
	unsigned ticket_lifetime; /* s */
};

/* The priorities of QUIC sessions. NULL: out of memory. */
gnutls_priority_t tls_store_quic_priority(struct tls_store *store);

/* The group for a name in lower case, or the default; NULL: there is neither. */
struct tls_group *tls_store_find(const struct tls_store *store, const char *name);

/* Whether the group's certificates also cover this name. */
bool tls_store_covers(const struct tls_store *store, const struct tls_group *group, const char *name);

/* ---- given.c ---- */

/* One certificate of the map, undecoded. */
struct tls_given {
	struct slice chain, key, password;
	struct slice names; /* msgpack; absent: those in the certificate */
	gnutls_pk_algorithm_t kind;
};

/* Reads the map into the store, and its certificates into an array of store->certificate_count entries, which the caller frees in
 * any case. */
bool tls_given_read(struct slice map, struct tls_store *store, struct tls_given **given, struct config_fault *fault);
/* Reports a fault of one certificate. Returns false. */
bool tls_fault_at(struct config_fault *fault, unsigned i, const char *what, const char *rule);

/* ---- key.c ---- */

/* Reads a private key, PEM or DER. NULL: *rule says why not. */
gnutls_privkey_t tls_key_read(struct slice bytes, const char *password, const char **rule);
/* Makes libraries open their files now, before the sandbox. */
void tls_key_start(void);
/* RSA keys sign slowly: logs a recommendation. */
bool tls_key_is_slow(gnutls_privkey_t key);

/* ---- chain.c ---- */

/* Reads certificates, PEM or DER, one after the other; freed with tls_certificates_free. False: *rule says why not. */
bool tls_certificates_read(struct slice bytes, gnutls_x509_crt_t **list, unsigned *count, const char **rule);
void tls_certificates_free(gnutls_x509_crt_t *list, unsigned count);
bool tls_is_pem(struct slice bytes);
/* Calls `each` with every host name of the certificate. False: one of the calls returned false. */
bool tls_certificate_names(gnutls_x509_crt_t crt, bool (*each)(void *ctx, struct slice name), void *ctx);

/* ---- ticket.c ---- */

/* Lets a session issue and accept tickets that are valid only for this name, this transport and the store's rules. False: out of
   memory. */
bool tls_ticket_enable(gnutls_session_t session, const struct tls_store *store, const char *name, bool quic);

/* ---- peer.c ---- */

/* Makes all sessions of these credentials ask for a certificate, and check it. False: the authorities cannot be read. */
bool tls_peer_demand(gnutls_certificate_credentials_t credentials, const struct tls_store *store);
/* The client's certificate, DER; absent: there is none. */
struct slice tls_peer_certificate(gnutls_session_t session);

static inline gnutls_datum_t tls_datum(struct slice bytes)
{
	return (gnutls_datum_t){(uint8_t *)(uintptr_t)bytes.at, (unsigned)bytes.len};
}

#endif
