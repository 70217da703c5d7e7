/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a listener's store, its certificates and rules, from the host's map (given.c). */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/wipe.h"
#include "frames/mp.h"
#include "tls/parts.h"

enum { LIFETIME = 86400, PASSWORD_MAX = 1024 };

static const char strong[] = "NORMAL:-VERS-ALL:%s-RSA:-DHE-RSA:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305%s:"
			     "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:%%SERVER_PRECEDENCE";

/* State while a store is being made. */
struct reader {
	struct tls_store *store;
	struct tls_given *given; /* of store->certificate_count */
	unsigned at;             /* the certificate whose names are added */
	bool slow;               /* reading the key of this certificate */
	unsigned slow_one;
	struct config_fault *fault;
};

static bool fault_at(struct reader *r, unsigned i, const char *what, const char *rule)
{
	return tls_fault_at(r->fault, i, what, rule);
}

static bool no_memory(struct reader *r)
{
	return option_wrong(r->fault, SLICE_LIT("tls"), "out of memory");
}

/* ---- certificates ---- */

static void warn_of_dates(gnutls_x509_crt_t crt, unsigned i, const char *name)
{
	time_t now = time(NULL), until = gnutls_x509_crt_get_expiration_time(crt), from = gnutls_x509_crt_get_activation_time(crt);

	if (until < now)
		log_line(LOG_WARNING, "certificate %u (%s) has expired", i, name);
	else if (from > now)
		log_line(LOG_WARNING, "certificate %u (%s) is not valid yet", i, name);
}

/* Adds one certificate and its key to the credentials of a group, which own both afterwards. */
static bool load(struct reader *r, unsigned i, gnutls_pcert_st **chain, unsigned *count, gnutls_privkey_t *key)
{
	const struct tls_given *g = &r->given[i];
	char password[PASSWORD_MAX + 1] = "";
	const char *rule = "cannot be loaded: out of memory";
	gnutls_x509_crt_t *list;
	int error;

	if (!tls_certificates_read(g->chain, &list, count, &rule))
		return fault_at(r, i, "chain", rule);
	*chain = *count <= TLS_CHAIN_MAX ? gnutls_calloc(*count, sizeof **chain) : NULL;
	if (!*chain) {
		tls_certificates_free(list, *count);
		return fault_at(r, i, "chain", *count > TLS_CHAIN_MAX ? "has more than 16 certificates" : rule);
	}
	error = gnutls_pcert_import_x509_list(*chain, list, count, GNUTLS_X509_CRT_LIST_SORT);
	tls_certificates_free(list, *count);
	if (error < 0) {
		gnutls_free(*chain);
		return fault_at(r, i, "chain", "is not a chain of certificates");
	}
	if (g->password.len <= PASSWORD_MAX)
		memcpy(password, g->password.at ? (const char *)g->password.at : "", g->password.len);
	*key = tls_key_read(g->key, g->password.len ? password : NULL, &rule);
	wipe(password, sizeof password);
	if (*key && tls_key_is_slow(*key) && !r->slow) {
		r->slow = true;
		r->slow_one = i;
	}
	if (*key)
		return true;
	for (unsigned n = 0; n < *count; n++)
		gnutls_pcert_deinit(&(*chain)[n]);
	gnutls_free(*chain);
	return fault_at(r, i, "key", rule);
}

static bool add_member(struct reader *r, struct tls_group *group, unsigned i)
{
	gnutls_pcert_st *chain;
	gnutls_privkey_t key;
	unsigned count;
	int error;

	if (!load(r, i, &chain, &count, &key))
		return false;
	error = gnutls_certificate_set_key(group->credentials, NULL, 0, chain, (int)count, key);
	if (error < 0) {
		for (unsigned n = 0; n < count; n++)
			gnutls_pcert_deinit(&chain[n]);
		gnutls_privkey_deinit(key);
	}
	gnutls_free(chain);
	if (error == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
		return fault_at(r, i, "key", "does not fit the certificate");
	return error >= 0 || fault_at(r, i, "certificate", "cannot be used for TLS");
}

static void group_free(struct tls_group *group)
{
	if (!group)
		return;
	if (group->credentials)
		gnutls_certificate_free_credentials(group->credentials);
	free(group);
}

static bool same_members(const struct tls_group *a, const struct tls_group *b)
{
	return a->member_count == b->member_count && memcmp(a->members, b->members, a->member_count * sizeof *a->members) == 0;
}

/* The group of these members, made if it does not exist. NULL: a fault. */
static struct tls_group *group_of(struct reader *r, const struct tls_group *wanted)
{
	struct tls_store *s = r->store;
	struct tls_group *group, **longer;

	for (unsigned i = 0; i < s->group_count; i++)
		if (same_members(s->groups[i], wanted))
			return s->groups[i];
	group = calloc(1, sizeof *group);
	longer = realloc(s->groups, (s->group_count + 1) * sizeof(struct tls_group *));
	if (longer)
		s->groups = longer;
	if (!group || !longer || gnutls_certificate_allocate_credentials(&group->credentials) < 0) {
		free(group);
		no_memory(r);
		return NULL;
	}
	memcpy(group->members, wanted->members, sizeof group->members);
	group->member_count = wanted->member_count;
	s->groups[s->group_count++] = group;
	for (unsigned i = 0; i < group->member_count; i++)
		if (!add_member(r, group, group->members[i]))
			return NULL;
	if (!tls_peer_demand(group->credentials, s)) {
		option_wrong(r->fault, SLICE_LIT("client_ca"), "has no certificate in PEM or DER");
		return NULL;
	}
	return group;
}

/* ---- names ---- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct tls_name *)a)->name, ((const struct tls_name *)b)->name);
}

static char *lower(struct slice name)
{
	char *copy = malloc(name.len + 1);

	if (!copy)
		return NULL;
	for (size_t i = 0; i < name.len; i++)
		copy[i] = (char)(name.at[i] >= 'A' && name.at[i] <= 'Z' ? name.at[i] + 'a' - 'A' : name.at[i]);
	copy[name.len] = 0;
	return copy;
}

/* Records that the certificate `at` is for this name. */
static bool add_claim(void *ctx, struct slice name)
{
	struct reader *r = ctx;
	struct tls_store *s = r->store;
	struct tls_claim *longer;

	if (name.len == 0 || name.len >= TLS_NAME_MAX || memchr(name.at, 0, name.len))
		return true; /* no client can ask for it */
	longer = realloc(s->claims, (s->claim_count + 1) * sizeof *longer);
	if (!longer)
		return no_memory(r);
	s->claims = longer;
	longer[s->claim_count] = (struct tls_claim){lower(name), r->at};
	return longer[s->claim_count].name ? ++s->claim_count : no_memory(r);
}

static bool given_names(struct reader *r, struct slice names)
{
	struct mp_value array, v;

	mp_read(&names, &array);
	for (; array.u > 0; array.u--) {
		if (!mp_read(&names, &v) || v.type != MP_STR)
			return fault_at(r, r->at, "names", "must be nil or an array of text");
		if (!add_claim(r, v.bytes))
			return false;
	}
	return true;
}

static bool claim_names(struct reader *r, unsigned i)
{
	struct tls_given *g = &r->given[i];
	struct tls_store *s = r->store;
	gnutls_x509_crt_t *list;
	unsigned count, before = s->claim_count;
	const char *rule;
	bool well;

	r->at = i;
	if (!tls_certificates_read(g->chain, &list, &count, &rule))
		return fault_at(r, i, "chain", rule);
	g->kind = (gnutls_pk_algorithm_t)gnutls_x509_crt_get_pk_algorithm(list[0], NULL);
	well = g->names.at ? given_names(r, g->names) : tls_certificate_names(list[0], add_claim, r);
	if (!s->trial) /* a trial does not warn; the real use will */
		warn_of_dates(list[0], i, s->claim_count > before ? s->claims[before].name : "without a name");
	tls_certificates_free(list, count);
	return well;
}

/* Sorts by name; entries of one name stay in the order of the certificates. */
static int compare_claims(const void *a, const void *b)
{
	const struct tls_claim *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->certificate > y->certificate) - (x->certificate < y->certificate);
}

/* Keeps the first certificate of each kind of key. */
static void choose(const struct reader *r, struct tls_group *group, unsigned certificate)
{
	for (unsigned i = 0; i < group->member_count; i++)
		if (r->given[group->members[i]].kind == r->given[certificate].kind)
			return;
	if (group->member_count < TLS_KINDS_MAX)
		group->members[group->member_count++] = certificate;
}

static bool settle_names(struct reader *r)
{
	struct tls_store *s = r->store;

	if (s->claim_count)
		qsort(s->claims, s->claim_count, sizeof *s->claims, compare_claims);
	s->names = calloc(s->claim_count + 1, sizeof *s->names);
	if (!s->names)
		return no_memory(r);
	for (unsigned i = 0; i < s->claim_count;) {
		struct tls_name *name = &s->names[s->name_count++];
		struct tls_group wanted = {0};
		*name = (struct tls_name){.name = s->claims[i].name, .claims = &s->claims[i]};
		for (; i < s->claim_count && strcmp(s->claims[i].name, name->name) == 0; i++, name->claim_count++)
			choose(r, &wanted, s->claims[i].certificate);
		name->group = group_of(r, &wanted);
		if (!name->group)
			return false;
	}
	return true;
}

/* For clients that name no known server: the same group as for a name of the first certificate. */
static bool settle_standard(struct reader *r)
{
	struct tls_group alone = {.members = {0}, .member_count = 1};
	struct tls_store *s = r->store;

	for (unsigned i = 0; i < s->name_count && !s->standard; i++) {
		struct tls_group *group = s->names[i].group;
		if (group && group->members[0] == 0)
			s->standard = group;
	}
	if (!s->standard)
		s->standard = group_of(r, &alone);
	return s->standard;
}

static bool check_unnamed(struct reader *r)
{
	for (unsigned i = 0; i < r->store->certificate_count; i++) {
		struct tls_group alone = {.members = {i}, .member_count = 1};
		bool known = false;
		for (unsigned g = 0; g < r->store->group_count; g++)
			for (unsigned m = 0; m < r->store->groups[g]->member_count; m++)
				known = known || r->store->groups[g]->members[m] == i;
		if (!known && !group_of(r, &alone)) /* it will never be used, but its faults are reported */
			return false;
	}
	return true;
}

static bool settle(struct reader *r)
{
	for (unsigned i = 0; i < r->store->certificate_count; i++)
		if (!claim_names(r, i))
			return false;
	return settle_names(r) && settle_standard(r) && check_unnamed(r);
}

/* ---- the rest ---- */

static bool settle_rules(struct reader *r)
{
	struct tls_store *s = r->store;
	uint8_t client = (uint8_t)s->client;
	gnutls_hash_hd_t hash;

	if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA512) < 0)
		return no_memory(r);
	gnutls_hash(hash, &client, 1);
	if (client)
		gnutls_hash(hash, s->client_ca.data, s->client_ca.size);
	gnutls_hash_deinit(hash, s->rules);
	return s->own_secret || gnutls_rnd(GNUTLS_RND_KEY, s->secret, sizeof s->secret) == 0 || no_memory(r);
}

static bool settle_priority(struct reader *r)
{
	struct tls_store *s = r->store;
	char text[sizeof strong + 128];

	snprintf(text, sizeof text, strong,
		 s->min == 13   ? "+VERS-TLS1.3:"
		 : s->max == 12 ? "+VERS-TLS1.2:"
				: "+VERS-TLS1.3:+VERS-TLS1.2:",
		 s->ciphers ? ":+AES-128-CBC:+AES-256-CBC" : "");
	return gnutls_priority_init(&s->priority, text, NULL) == 0 || no_memory(r);
}

gnutls_priority_t tls_store_quic_priority(struct tls_store *s)
{
	char text[sizeof strong + 128], tail[] = ":%DISABLE_TLS13_COMPAT_MODE";

	if (s->quic_priority)
		return s->quic_priority;
	snprintf(text, sizeof text, strong, "+VERS-TLS1.3:", "");
	memcpy(text + strlen(text), tail, sizeof tail);
	if (gnutls_priority_init(&s->quic_priority, text, NULL) != 0)
		s->quic_priority = NULL;
	return s->quic_priority;
}

bool tls_store_fits_quic(const struct tls_store *store)
{
	return store->max == 13;
}

struct tls_store *tls_store_read(struct slice map, struct config_fault *fault)
{
	struct reader r = {.store = calloc(1, sizeof *r.store), .fault = fault};

	memset(fault, 0, sizeof *fault);
	if (!r.store) {
		no_memory(&r);
		return NULL;
	}
	*r.store = (struct tls_store){.users = 1,
				      .min = 12,
				      .max = 13,
				      .tickets = true,
				      .ticket_lifetime = LIFETIME,
				      .alpn_count = 2,
				      .alpn = {"h2", "http/1.1"}};
	if (!tls_given_read(map, r.store, &r.given, fault) || !settle(&r) || !settle_rules(&r) || !settle_priority(&r)) {
		tls_store_drop(r.store);
		r.store = NULL;
	} else if (r.slow && !r.store->trial) {
		log_line(LOG_INFO, "certificate %u has an RSA key: with ECDSA a handshake would take a fifth of the CPU time",
			 r.slow_one);
	}
	free(r.given);
	return r.store;
}

struct tls_store *tls_store_keep(struct tls_store *store)
{
	store->users++;
	return store;
}

void tls_store_drop(struct tls_store *s)
{
	if (!s || --s->users > 0)
		return;
	for (unsigned i = 0; i < s->claim_count; i++)
		free(s->claims[i].name);
	free(s->claims);
	free(s->names);
	for (unsigned i = 0; i < s->group_count; i++)
		group_free(s->groups[i]);
	free(s->groups);
	if (s->priority)
		gnutls_priority_deinit(s->priority);
	if (s->quic_priority)
		gnutls_priority_deinit(s->quic_priority);
	free(s->client_ca.data);
	wipe(s->secret, sizeof s->secret);
	free(s);
}

unsigned tls_store_certificates(const struct tls_store *store)
{
	return store->certificate_count;
}

bool tls_store_is_trial(const struct tls_store *store)
{
	return store->trial;
}

static const struct tls_name *exactly(const struct tls_store *store, const char *name)
{
	struct tls_name key = {.name = name};

	return bsearch(&key, store->names, store->name_count, sizeof *store->names, compare_names);
}

/* The name itself, or its wildcard, which replaces only the first label. */
static const struct tls_name *named(const struct tls_store *store, const char *name)
{
	const struct tls_name *found = exactly(store, name);
	const char *dot = strchr(name, '.');
	char wildcard[TLS_NAME_MAX + 1];

	if (found || !dot || dot == name)
		return found;
	snprintf(wildcard, sizeof wildcard, "*%s", dot);
	return exactly(store, wildcard);
}

struct tls_group *tls_store_find(const struct tls_store *store, const char *name)
{
	const struct tls_name *found = *name ? named(store, name) : NULL;

	if (found)
		return found->group;
	return store->strict_sni ? NULL : store->standard;
}

static bool claims(const struct tls_name *name, unsigned certificate)
{
	for (unsigned i = 0; i < name->claim_count; i++)
		if (name->claims[i].certificate == certificate)
			return true;
	return false;
}

/* An exact name may have other certificates than a wildcard that also covers it. */
static bool covers(const struct tls_store *store, const char *name, unsigned certificate)
{
	const struct tls_name *found = exactly(store, name);
	const char *dot = strchr(name, '.');
	char wildcard[TLS_NAME_MAX + 1];

	if (found && claims(found, certificate))
		return true;
	if (!dot || dot == name)
		return false;
	snprintf(wildcard, sizeof wildcard, "*%s", dot);
	found = exactly(store, wildcard);
	return found && claims(found, certificate);
}

bool tls_store_covers(const struct tls_store *store, const struct tls_group *group, const char *name)
{
	for (unsigned i = 0; i < group->member_count; i++)
		if (!covers(store, name, group->members[i]))
			return false;
	return true;
}

uint8_t tls_store_refuses(const struct tls_store *store, const struct tls_hello *hello)
{
	return store->min == 13 && !hello->takes_13 ? GNUTLS_A_PROTOCOL_VERSION : 0;
}

bool tls_start(void)
{
	tls_key_start();
	return gnutls_global_init() == 0;
}
