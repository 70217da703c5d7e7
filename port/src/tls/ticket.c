/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tickets. The library derives the keys of the day from 64 bytes; those are derived here from the store's secret, the server
 * name, and the rules for client certificates. So a session is never resumed for another name (RFC 6066, section 3) or under
 * other rules, and nodes with the same secret accept each other's tickets.
 */
#include "base/wipe.h"
#include "tls/parts.h"

bool tls_store_tickets(struct tls_store *store, struct slice key)
{
	if (key.len != TLS_TICKET_KEY)
		return false;
	memcpy(store->secret, key.at, TLS_TICKET_KEY);
	store->own_secret = true;
	return true;
}

void tls_store_inherit(struct tls_store *store, const struct tls_store *before)
{
	if (!store->own_secret)
		memcpy(store->secret, before->secret, sizeof store->secret);
}

bool tls_ticket_enable(gnutls_session_t session, const struct tls_store *store, const char *name, bool quic)
{
	uint8_t about[sizeof store->rules + 1 + TLS_NAME_MAX], key[TLS_TICKET_KEY];
	gnutls_datum_t datum = {key, sizeof key};
	size_t n = strlen(name);
	bool well;

	if (!store->tickets)
		return true;
	memcpy(about, store->rules, sizeof store->rules);
	memcpy(about + sizeof store->rules, name, n);
	about[sizeof store->rules + n] = 'q';
	n += quic;
	well = gnutls_hmac_fast(GNUTLS_MAC_SHA512, store->secret, sizeof store->secret, about, sizeof store->rules + n, key) == 0;
	gnutls_db_set_cache_expiration(session, (int)store->ticket_lifetime);
	well = well && gnutls_session_ticket_enable_server(session, &datum) == 0;
	wipe(key, sizeof key);
	return well;
}
