/* SPDX-License-Identifier: Apache-2.0 */
#include "ws/handshake.h"

#include "base/sha1.h"
#include "base/text.h"
#include "frames/names.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static bool is_digit(uint8_t c)
{
	return memchr(digits, c, sizeof digits - 1) != NULL;
}

/* 16 bytes in base64: 22 digits and two padding characters. The spare bits of the last digit may be anything (RFC 4648 3.5). */
static bool is_key(struct slice value)
{
	if (value.len != WS_KEY_LEN || value.at[22] != '=' || value.at[23] != '=')
		return false;
	for (unsigned i = 0; i < 22; i++)
		if (!is_digit(value.at[i]))
			return false;
	return true;
}

/* Reads the fields; each may come only once, except lists. */
struct seen {
	bool upgrade, connection;
	unsigned versions, keys;
	bool version_13, key_valid;
};

static void read_field(struct ws_handshake *h, struct seen *seen, const struct field *f)
{
	unsigned count = h->offered;

	if (slice_eq(f->name, SLICE_LIT("upgrade"))) {
		seen->upgrade |= text_lists(f->value, SLICE_LIT("websocket"));
	} else if (slice_eq(f->name, SLICE_LIT("connection"))) {
		seen->connection |= text_lists(f->value, SLICE_LIT("upgrade"));
	} else if (slice_eq(f->name, SLICE_LIT("sec-websocket-version"))) {
		seen->versions++;
		seen->version_13 = slice_eq(f->value, SLICE_LIT("13"));
	} else if (slice_eq(f->name, SLICE_LIT("sec-websocket-key"))) {
		seen->keys++;
		seen->key_valid = is_key(f->value);
		if (seen->key_valid)
			memcpy(h->key, f->value.at, WS_KEY_LEN);
	} else if (slice_eq(f->name, SLICE_LIT("sec-websocket-extensions"))) {
		deflate_read_offers(f->value, h->offers, &count);
		h->offered = (uint8_t)count;
	}
}

static unsigned refusal(const struct seen *seen, const struct request_head *head)
{
	bool asked = head->version >= 11 && head->method_index == METHOD_GET && head->body == BODY_NONE && seen->upgrade &&
		     (seen->connection || head->version >= 20);

	if (!asked || seen->versions > 1)
		return 400;
	if (!seen->version_13)
		return 426;
	return head->version >= 20 || (seen->keys == 1 && seen->key_valid) ? 0 : 400;
}

void ws_handshake_read(struct ws_handshake *h, const struct request_head *head)
{
	struct seen seen = {0};

	*h = (struct ws_handshake){0};
	for (unsigned i = 0; i < head->field_count; i++)
		read_field(h, &seen, &head->fields[i]);
	h->refusal = (uint16_t)refusal(&seen, head);
	h->valid = h->refusal == 0;
	h->has_key = head->version < 20;
}

void ws_accept_value(const char key[WS_KEY_LEN], char accept[WS_ACCEPT_LEN])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[WS_KEY_LEN + sizeof guid - 1];
	uint8_t digest[SHA1_LEN + 1] = {0};

	memcpy(text, key, WS_KEY_LEN);
	memcpy(text + WS_KEY_LEN, guid, sizeof guid - 1);
	sha1(text, sizeof text, digest);
	for (unsigned i = 0; i < SHA1_LEN + 1; i += 3) {
		unsigned three = (unsigned)digest[i] << 16 | (unsigned)digest[i + 1] << 8 | digest[i + 2];
		for (unsigned k = 0; k < 4; k++)
			*accept++ = digits[three >> (18 - 6 * k) & 63];
	}
	accept[-1] = '=';
}
