/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a listener's `tls` map: records its settings and the bytes of its certificates, which store.c parses afterwards. */
#include <stdio.h>
#include <stdlib.h>

#include "frames/mp.h"
#include "tls/parts.h"

enum { LIFETIME_MAX = 604800, CHAIN_BYTES_MAX = 1 << 20 };

static const struct slice certificates = SLICE_LIT("certificates");

bool tls_fault_at(struct config_fault *fault, unsigned i, const char *what, const char *rule)
{
	return option_wrong(fault, certificates, "%u: %s %s", i, what, rule);
}

static bool is_bytes(const struct mp_value *v)
{
	return v->type == MP_BIN || v->type == MP_STR;
}

/* ---- one certificate ---- */

struct entry {
	struct tls_given *given;
	unsigned i;
};

static bool take_entry(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct entry *e = to;
	struct slice in = raw;
	struct mp_value v;

	if (!mp_read(&in, &v))
		return false;
	if (slice_eq(key, SLICE_LIT("names"))) {
		if (v.type == MP_ARRAY)
			e->given->names = raw;
		return v.type == MP_ARRAY || v.type == MP_NIL ||
		       tls_fault_at(fault, e->i, "names", "must be nil or an array of text");
	}
	if (slice_eq(key, SLICE_LIT("password")) && v.type == MP_NIL)
		return true;
	if (!is_bytes(&v))
		return tls_fault_at(fault, e->i, "each of chain, key and password", "must be bytes");
	if (slice_eq(key, SLICE_LIT("chain")))
		e->given->chain = v.bytes;
	else if (slice_eq(key, SLICE_LIT("key")))
		e->given->key = v.bytes;
	else if (slice_eq(key, SLICE_LIT("password")))
		e->given->password = v.bytes;
	else
		return tls_fault_at(fault, e->i, "a key", "must be one of chain, key, password and names");
	return true;
}

static bool read_entry(struct tls_given *given, unsigned i, struct slice raw, struct config_fault *fault)
{
	struct entry e = {given, i};

	if (!options_read(raw, "certificates", "must be an array of maps", take_entry, &e, fault))
		return false;
	if (!given->chain.len || given->chain.len > CHAIN_BYTES_MAX)
		return tls_fault_at(fault, i, "chain", "is missing, or too long");
	return given->key.len || tls_fault_at(fault, i, "key", "is missing");
}

/* ---- the map ---- */

struct reading {
	struct tls_store *store;
	struct tls_given *given;
};

static bool read_certificates(struct reading *r, struct slice raw, struct config_fault *fault)
{
	struct mp_value array;
	struct slice map;

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY || array.u == 0 || array.u > TLS_CERTIFICATES_MAX)
		return option_wrong(fault, certificates, "must be an array of 1 to %d maps", TLS_CERTIFICATES_MAX);
	if (r->given)
		return option_wrong(fault, certificates, "is there twice");
	r->given = calloc(array.u, sizeof *r->given);
	if (!r->given)
		return option_wrong(fault, SLICE_LIT("tls"), "out of memory");
	r->store->certificate_count = (unsigned)array.u;
	for (unsigned i = 0; i < array.u; i++)
		if (!mp_skip(&raw, &map) || !read_entry(&r->given[i], i, map, fault))
			return false;
	return true;
}

static bool read_alpn(struct tls_store *s, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct mp_value array, v;

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY || array.u > TLS_ALPN_MAX)
		return option_wrong(fault, key, "must be an array of at most %d protocols", TLS_ALPN_MAX);
	for (s->alpn_count = 0; s->alpn_count < array.u; s->alpn_count++) {
		if (!mp_read(&raw, &v) || v.type != MP_STR ||
		    (!slice_eq(v.bytes, SLICE_LIT("h2")) && !slice_eq(v.bytes, SLICE_LIT("http/1.1"))))
			return option_wrong(fault, key, "may contain only h2 and http/1.1");
		snprintf(s->alpn[s->alpn_count], sizeof s->alpn[0], "%.*s", (int)v.bytes.len, (const char *)v.bytes.at);
	}
	return true;
}

static bool read_ca(struct tls_store *s, struct slice key, const struct mp_value *v, struct config_fault *fault)
{
	gnutls_datum_t *ca = &s->client_ca;

	if (v->type == MP_NIL)
		return true;
	if (!is_bytes(v))
		return option_wrong(fault, key, "must be nil or bytes");
	free(ca->data);
	ca->data = malloc(v->bytes.len + 1);
	if (!ca->data)
		return option_wrong(fault, SLICE_LIT("tls"), "out of memory");
	memcpy(ca->data, v->bytes.at, v->bytes.len);
	ca->size = (unsigned)v->bytes.len;
	return true;
}

static bool read_tickets(struct tls_store *s, struct slice key, const struct mp_value *v, struct config_fault *fault)
{
	s->tickets = v->type != MP_BOOL || v->u;
	if (v->type == MP_NIL || v->type == MP_BOOL)
		return true;
	return (is_bytes(v) && tls_store_tickets(s, v->bytes)) ||
	       option_wrong(fault, key, "must be nil, false, or %d bytes", TLS_TICKET_KEY);
}

static bool read_number(unsigned *to, struct slice key, struct slice raw, uint64_t min, uint64_t max, const char *unit,
			struct config_fault *fault)
{
	uint64_t number = 0;
	bool well = option_number(&number, key, raw, min, max, unit, fault);

	if (well)
		*to = (unsigned)number;
	return well;
}

static bool take_option(void *to, struct slice key, struct slice raw, struct config_fault *fault)
{
	struct reading *r = to;
	struct tls_store *s = r->store;
	struct slice in = raw;
	struct mp_value v;

	mp_read(&in, &v);
	if (slice_eq(key, certificates))
		return read_certificates(r, raw, fault);
	if (slice_eq(key, SLICE_LIT("alpn")))
		return read_alpn(s, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("min")))
		return read_number(&s->min, key, raw, 12, 13, "", fault);
	if (slice_eq(key, SLICE_LIT("max")))
		return read_number(&s->max, key, raw, 12, 13, "", fault);
	if (slice_eq(key, SLICE_LIT("ciphers")))
		return read_number(&s->ciphers, key, raw, 0, 1, "", fault);
	if (slice_eq(key, SLICE_LIT("client")))
		return read_number(&s->client, key, raw, TLS_CLIENT_UNASKED, TLS_CLIENT_REQUIRED, "", fault);
	if (slice_eq(key, SLICE_LIT("client_ca")))
		return read_ca(s, key, &v, fault);
	if (slice_eq(key, SLICE_LIT("tickets")))
		return read_tickets(s, key, &v, fault);
	if (slice_eq(key, SLICE_LIT("ticket_lifetime")))
		return read_number(&s->ticket_lifetime, key, raw, 1, LIFETIME_MAX, "s", fault);
	if (slice_eq(key, SLICE_LIT("strict_sni")))
		return option_flag(&s->strict_sni, key, raw, fault);
	if (slice_eq(key, SLICE_LIT("trial")))
		return option_flag(&s->trial, key, raw, fault);
	return option_wrong(fault, key, "is unknown in tls");
}

static bool check_whole(const struct tls_store *s, const struct tls_given *given, struct config_fault *fault)
{
	if (!given)
		return option_wrong(fault, certificates, "is missing");
	if (s->min > s->max)
		return option_wrong(fault, SLICE_LIT("min"), "must be at most max");
	if (s->client != TLS_CLIENT_UNASKED && s->client_ca.size == 0)
		return option_wrong(fault, SLICE_LIT("client_ca"), "is required, since client is not 0");
	return true;
}

bool tls_given_read(struct slice map, struct tls_store *store, struct tls_given **given, struct config_fault *fault)
{
	struct reading r = {.store = store};
	bool well = options_read(map, "tls", "must be a map", take_option, &r, fault) && check_whole(store, r.given, fault);

	*given = r.given;
	return well;
}
