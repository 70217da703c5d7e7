/* SPDX-License-Identifier: Apache-2.0 */
#include "tls_fixture.h"

#include "frames/mp.h"

struct buf tls_file(const char *name)
{
	static const char *const places[] = {"../test/fixtures/tls", "test/fixtures/tls"};
	struct buf bytes = {0};
	char path[256];
	FILE *file = NULL;
	size_t n;

	for (unsigned i = 0; i < 2 && !file; i++) {
		snprintf(path, sizeof path, "%s/%s", places[i], name);
		file = fopen(path, "rb");
	}
	if (!file)
		fail_msg("there is no test/fixtures/tls/%s", name);
	do {
		assert_true(buf_reserve(&bytes, 4096));
		n = fread(bytes.data + bytes.tail, 1, 4096, file);
		buf_filled(&bytes, n);
	} while (n > 0);
	fclose(file);
	return bytes;
}

static void put(struct buf *to, uint8_t *(*write)(uint8_t *at, struct slice bytes), struct slice bytes)
{
	uint8_t *at, *end;

	assert_true(buf_reserve(to, bytes.len + MP_MAX_HEAD));
	at = to->data + to->tail;
	end = write(at, bytes);
	buf_filled(to, (size_t)(end - at));
}

static void put_file(struct buf *to, const char *key, const char *name, size_t n, const char *ending)
{
	char file[128];
	struct buf bytes;

	snprintf(file, sizeof file, "%.*s%s", (int)n, name, ending);
	bytes = tls_file(file);
	put(to, mp_str, slice_str(key));
	put(to, mp_bin, slice_of(buf_at(&bytes), buf_len(&bytes)));
	buf_free(&bytes);
}

static void put_head(struct buf *to, uint8_t *(*write)(uint8_t *at, uint32_t n), uint32_t n)
{
	uint8_t *at, *end;

	assert_true(buf_reserve(to, MP_MAX_HEAD));
	at = to->data + to->tail;
	end = write(at, n);
	buf_filled(to, (size_t)(end - at));
}

static void put_certificates(struct buf *to, const char *names)
{
	uint32_t count = 1;

	for (const char *at = names; *at; at++)
		count += *at == ' ';
	put(to, mp_str, SLICE_LIT("certificates"));
	put_head(to, mp_array, count);
	for (const char *at = names; count > 0; count--) {
		size_t n = strcspn(at, " "), first = strcspn(at, ": ");
		const char *key = first < n ? at + first + 1 : at;
		put_head(to, mp_map, 2);
		put_file(to, "chain", at, first, ".crt");
		put_file(to, "key", key, (size_t)(at + n - key), ".key");
		at += n + (at[n] == ' ');
	}
}

static void put_authority(struct buf *to, struct slice text)
{
	struct buf ca;
	char file[64];

	snprintf(file, sizeof file, "%.*s.crt", (int)text.len - 3, (const char *)text.at + 3);
	ca = tls_file(file);
	put(to, mp_bin, slice_of(buf_at(&ca), buf_len(&ca)));
	buf_free(&ca);
}

struct buf tls_map_of_files(const char *chain, const char *key, const char *password)
{
	struct buf map = {0};

	put_head(&map, mp_map, 1);
	put(&map, mp_str, SLICE_LIT("certificates"));
	put_head(&map, mp_array, 1);
	put_head(&map, mp_map, password ? 3 : 2);
	put_file(&map, "chain", chain, strlen(chain), "");
	put_file(&map, "key", key, strlen(key), "");
	if (password) {
		put(&map, mp_str, SLICE_LIT("password"));
		put(&map, mp_str, slice_str(password));
	}
	return map;
}

struct buf tls_map(const char *certificates, const char *more)
{
	struct buf map = {0}, rest = {0};
	struct slice in, raw;
	struct mp_value pairs = {.u = 0};

	if (more)
		notation_pack(&rest, more);
	in = slice_of(buf_at(&rest), buf_len(&rest));
	if (more)
		assert_true(mp_read(&in, &pairs) && pairs.type == MP_MAP);
	put_head(&map, mp_map, 1 + (uint32_t)pairs.u);
	put_certificates(&map, certificates);
	for (uint64_t i = 0; i < 2 * pairs.u; i++) {
		struct mp_value v;
		struct slice at;
		assert_true(mp_skip(&in, &raw));
		at = raw;
		assert_true(mp_read(&at, &v));
		if (v.type == MP_STR && v.bytes.len > 3 && memcmp(v.bytes.at, "CA:", 3) == 0)
			put_authority(&map, v.bytes);
		else
			assert_true(buf_append(&map, raw.at, raw.len));
	}
	buf_free(&rest);
	return map;
}

struct tls_store *tls_store_of(const char *certificates, const char *more)
{
	struct buf map = tls_map(certificates, more);
	struct config_fault fault;
	struct tls_store *store = tls_store_read(slice_of(buf_at(&map), buf_len(&map)), &fault);

	buf_free(&map);
	if (!store)
		fail_msg("%s: %s", fault.field, fault.rule);
	return store;
}
