/* What a listener shows and demands. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/wipe.h"
#include "frames/mp.h"
#include "tls/parts.h"

enum { LIFETIME = 86400, LIFETIME_MAX = 604800, PASSWORD_MAX = 1024, CHAIN_BYTES_MAX = 1 << 20 };

static const char strong[] = "NORMAL:-VERS-ALL:%s-RSA:-DHE-RSA:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305%s:"
			     "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:%%SERVER_PRECEDENCE";

/* One certificate of the map, as it came. */
struct given {
	struct slice chain, key, password;
	struct slice names; /* msgpack; absent: those in the certificate */
	gnutls_pk_algorithm_t kind;
};

/* A store while it is read. */
struct reader {
	struct tls_store *store;
	struct given *given; /* of store->certificate_count */
	unsigned at;         /* the certificate whose names are added */
	bool slow;           /* a key is, that of: */
	unsigned slow_one;
	struct config_fault *fault;
};

/* ---- faults ---- */

static bool fault_of(struct reader *r, const char *field, const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool fault_of(struct reader *r, const char *field, const char *format, ...)
{
	va_list args;

	snprintf(r->fault->field, sizeof r->fault->field, "%s", field);
	va_start(args, format);
	vsnprintf(r->fault->rule, sizeof r->fault->rule, format, args);
	va_end(args);
	return false;
}

static bool fault_at(struct reader *r, unsigned i, const char *what, const char *rule)
{
	return fault_of(r, "certificates", "%u: %s %s", i, what, rule);
}

static bool no_memory(struct reader *r)
{
	return fault_of(r, "tls", "out of memory");
}

/* ---- the map ---- */

static bool is_bytes(const struct mp_value *v)
{
	return v->type == MP_BIN || v->type == MP_STR;
}

static bool read_given_key(struct reader *r, unsigned i, struct slice key, struct slice raw)
{
	struct given *g = &r->given[i];
	struct slice in = raw;
	struct mp_value v;

	if (!mp_read(&in, &v))
		return false;
	if (slice_eq(key, SLICE_LIT("names"))) {
		if (v.type == MP_ARRAY)
			g->names = raw;
		return v.type == MP_ARRAY || v.type == MP_NIL || fault_at(r, i, "names", "must be nil or an array of text");
	}
	if (slice_eq(key, SLICE_LIT("password")) && v.type == MP_NIL)
		return true;
	if (!is_bytes(&v))
		return fault_at(r, i, "each of chain, key and password", "must be bytes");
	if (slice_eq(key, SLICE_LIT("chain")))
		g->chain = v.bytes;
	else if (slice_eq(key, SLICE_LIT("key")))
		g->key = v.bytes;
	else if (slice_eq(key, SLICE_LIT("password")))
		g->password = v.bytes;
	else
		return fault_at(r, i, "a key", "is none of chain, key, password and names");
	return true;
}

static bool read_given(struct reader *r, unsigned i, struct slice *in)
{
	struct mp_value map, key;
	struct slice raw;

	if (!mp_read(in, &map) || map.type != MP_MAP)
		return fault_of(r, "certificates", "must be an array of maps");
	for (; map.u > 0; map.u--) {
		if (!mp_read(in, &key) || key.type != MP_STR || !mp_skip(in, &raw))
			return fault_at(r, i, "a key", "is not text");
		if (!read_given_key(r, i, key.bytes, raw))
			return false;
	}
	if (!r->given[i].chain.len || r->given[i].chain.len > CHAIN_BYTES_MAX)
		return fault_at(r, i, "chain", "is missing, or too long");
	return r->given[i].key.len || fault_at(r, i, "key", "is missing");
}

static bool read_certificates(struct reader *r, struct slice raw)
{
	struct mp_value array;

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY || array.u == 0 || array.u > TLS_CERTIFICATES_MAX)
		return fault_of(r, "certificates", "must be an array of 1 to %d maps", TLS_CERTIFICATES_MAX);
	if (r->given)
		return fault_of(r, "certificates", "is there twice");
	r->given = calloc(array.u, sizeof *r->given);
	if (!r->given)
		return no_memory(r);
	r->store->certificate_count = (unsigned)array.u;
	for (unsigned i = 0; i < array.u; i++)
		if (!read_given(r, i, &raw))
			return false;
	return true;
}

static bool read_alpn(struct reader *r, struct slice raw)
{
	struct tls_store *s = r->store;
	struct mp_value array, v;
	size_t size = sizeof s->alpn[0];

	if (!mp_read(&raw, &array) || array.type != MP_ARRAY || array.u > TLS_ALPN_MAX)
		return fault_of(r, "alpn", "must be an array of at most %d protocols", TLS_ALPN_MAX);
	for (s->alpn_count = 0; s->alpn_count < array.u; s->alpn_count++) {
		if (!mp_read(&raw, &v) || v.type != MP_STR ||
		    (!slice_eq(v.bytes, SLICE_LIT("h2")) && !slice_eq(v.bytes, SLICE_LIT("http/1.1"))))
			return fault_of(r, "alpn", "must have h2 and http/1.1, and nothing else");
		snprintf(s->alpn[s->alpn_count], size, "%.*s", (int)v.bytes.len, (const char *)v.bytes.at);
	}
	return true;
}

static bool read_number(struct reader *r, const char *field, const struct mp_value *v, uint64_t min, uint64_t max, unsigned *to)
{
	if (v->type != MP_UINT || v->u < min || v->u > max)
		return fault_of(r, field, "must be %" PRIu64 " to %" PRIu64, min, max);
	*to = (unsigned)v->u;
	return true;
}

static bool read_ca(struct reader *r, const struct mp_value *v)
{
	gnutls_datum_t *ca = &r->store->client_ca;

	if (v->type == MP_NIL)
		return true;
	if (!is_bytes(v))
		return fault_of(r, "client_ca", "must be nil or bytes");
	ca->data = malloc(v->bytes.len + 1);
	if (!ca->data)
		return no_memory(r);
	memcpy(ca->data, v->bytes.at, v->bytes.len);
	ca->size = (unsigned)v->bytes.len;
	return true;
}

static bool read_tickets(struct reader *r, const struct mp_value *v)
{
	r->store->tickets = v->type != MP_BOOL || v->u;
	if (v->type == MP_NIL || v->type == MP_BOOL)
		return true;
	if (!is_bytes(v) || !tls_store_tickets(r->store, v->bytes))
		return fault_of(r, "tickets", "must be nil, false, or %d bytes", TLS_TICKET_KEY);
	return true;
}

static bool read_key(struct reader *r, struct slice key, struct slice raw)
{
	struct tls_store *s = r->store;
	struct slice in = raw;
	struct mp_value v;
	unsigned client = s->client;

	if (!mp_read(&in, &v))
		return false;
	if (slice_eq(key, SLICE_LIT("certificates")))
		return read_certificates(r, raw);
	if (slice_eq(key, SLICE_LIT("alpn")))
		return read_alpn(r, raw);
	if (slice_eq(key, SLICE_LIT("min")))
		return read_number(r, "min", &v, 12, 13, &s->min);
	if (slice_eq(key, SLICE_LIT("max")))
		return read_number(r, "max", &v, 12, 13, &s->max);
	if (slice_eq(key, SLICE_LIT("ciphers")))
		return read_number(r, "ciphers", &v, 0, 1, &s->ciphers);
	if (slice_eq(key, SLICE_LIT("client"))) {
		bool well = read_number(r, "client", &v, TLS_CLIENT_UNASKED, TLS_CLIENT_REQUIRED, &client);
		s->client = (enum tls_client)client;
		return well;
	}
	if (slice_eq(key, SLICE_LIT("client_ca")))
		return read_ca(r, &v);
	if (slice_eq(key, SLICE_LIT("tickets")))
		return read_tickets(r, &v);
	if (slice_eq(key, SLICE_LIT("ticket_lifetime")))
		return read_number(r, "ticket_lifetime", &v, 1, LIFETIME_MAX, &s->ticket_lifetime);
	if (slice_eq(key, SLICE_LIT("strict_sni"))) {
		s->strict_sni = v.u;
		return v.type == MP_BOOL || fault_of(r, "strict_sni", "must be true or false");
	}
	snprintf(r->fault->field, sizeof r->fault->field, "%.*s", (int)(key.len < 60 ? key.len : 60), (const char *)key.at);
	snprintf(r->fault->rule, sizeof r->fault->rule, "is unknown in tls");
	return false;
}

static bool read_map(struct reader *r, struct slice in)
{
	struct mp_value map, key;
	struct slice raw;

	if (!mp_read(&in, &map) || map.type != MP_MAP)
		return fault_of(r, "tls", "must be a map");
	for (; map.u > 0; map.u--) {
		if (!mp_read(&in, &key) || key.type != MP_STR || !mp_skip(&in, &raw))
			return fault_of(r, "tls", "has a key that is not text");
		if (!read_key(r, key.bytes, raw))
			return false;
	}
	if (!r->given)
		return fault_of(r, "certificates", "is missing");
	if (r->store->min > r->store->max)
		return fault_of(r, "min", "must be at most max");
	if (r->store->client != TLS_CLIENT_UNASKED && r->store->client_ca.size == 0)
		return fault_of(r, "client_ca", "is missing: clients' certificates are to be checked");
	return true;
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

/* What the credentials of a group need of one certificate; both are theirs afterwards. */
static bool load(struct reader *r, unsigned i, gnutls_pcert_st **chain, unsigned *count, gnutls_privkey_t *key)
{
	const struct given *g = &r->given[i];
	char password[PASSWORD_MAX + 1] = "";
	const char *rule = "cannot be taken: out of memory";
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
		return fault_at(r, i, "chain", "is no chain of certificates");
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

/* The group of these members, made if it is not there. NULL: a fault. */
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
		fault_of(r, "client_ca", "has no certificate in PEM or DER");
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

/* The certificate `at` is for this name. */
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
	struct given *g = &r->given[i];
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
	warn_of_dates(list[0], i, s->claim_count > before ? s->claims[before].name : "without a name");
	tls_certificates_free(list, count);
	return well;
}

/* By name; those of one name in the order in which the certificates came. */
static int compare_claims(const void *a, const void *b)
{
	const struct tls_claim *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->certificate > y->certificate) - (x->certificate < y->certificate);
}

/* Of each kind of key the first. */
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

/* For clients that name nobody we know: what those get who ask for a name of the first certificate. */
static bool settle_standard(struct reader *r)
{
	struct tls_group alone = {.members = {0}, .member_count = 1};
	struct tls_store *s = r->store;

	for (unsigned i = 0; i < s->name_count && !s->standard; i++)
		if (s->names[i].group->members[0] == 0)
			s->standard = s->names[i].group;
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
		if (!known && !group_of(r, &alone)) /* nobody will be shown it, but its faults are told */
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
	if (!read_map(&r, map) || !settle(&r) || !settle_rules(&r) || !settle_priority(&r)) {
		tls_store_drop(r.store);
		r.store = NULL;
	} else if (r.slow) {
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
	free(s->client_ca.data);
	wipe(s->secret, sizeof s->secret);
	free(s);
}

unsigned tls_store_certificates(const struct tls_store *store)
{
	return store->certificate_count;
}

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

static const struct tls_name *exactly(const struct tls_store *store, const char *name)
{
	struct tls_name key = {.name = name};

	return bsearch(&key, store->names, store->name_count, sizeof *store->names, compare_names);
}

/* The name itself, or its wildcard: the first label, and no more, may be anything. */
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

/* An exact name may have other certificates than the wildcard that covers it too. */
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

bool tls_start(void)
{
	tls_key_start();
	return gnutls_global_init() == 0;
}
