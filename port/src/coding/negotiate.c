/* SPDX-License-Identifier: Apache-2.0 */
#include "coding/negotiate.h"

#include "base/text.h"

enum { UNNAMED = -1, WEIGHT_MAX = 1000, STAR = CODINGS };

static const struct {
	const char *name;
	unsigned place;
} codings[CODINGS] = {
	[CODING_IDENTITY] = {"identity", 0},
#define CODING(symbol, name, place) [CODING_##symbol] = {name, place},
#include "coding/codings.def"
#undef CODING
};

const char coding_names[] =
#define CODING(symbol, name, place) " " name
#include "coding/codings.def"
#undef CODING
	;

const char *coding_name(enum coding coding)
{
	return codings[coding].name;
}

unsigned coding_place(enum coding coding)
{
	return codings[coding].place;
}

enum coding coding_by_name(struct slice name)
{
	/* RFC 9110 8.4.1.3 */
	if (slice_eq_nocase(name, SLICE_LIT("x-gzip")))
		return CODING_GZIP;
	for (enum coding c = CODING_GZIP; c < CODINGS; c++)
		if (slice_eq_nocase(name, slice_str(codings[c].name)))
			return c;
	return CODING_IDENTITY;
}

/* A qvalue in thousandths (RFC 9110 12.4.2); 0 if it is malformed. */
static int weight(struct slice text)
{
	int value, unit = 100;

	if (text.len < 3 || text.len > 7 || (text.at[0] | 0x20) != 'q' || text.at[1] != '=')
		return 0;
	if (text.at[2] != '0' && text.at[2] != '1')
		return 0;
	value = (text.at[2] - '0') * WEIGHT_MAX;
	if (text.len > 3 && text.at[3] != '.')
		return 0;
	for (size_t i = 4; i < text.len; i++, unit /= 10) {
		if (text.at[i] < '0' || text.at[i] > '9')
			return 0;
		value += (text.at[i] - '0') * unit;
	}
	return value <= WEIGHT_MAX ? value : 0;
}

/* One member of the list: the lowest weight of a name counts. */
static void note(int *weights, struct slice member)
{
	struct slice parameters, name = text_trim(text_cut(member, ';', &parameters));
	int value = parameters.at ? weight(text_trim(parameters)) : WEIGHT_MAX, which = (int)coding_by_name(name);

	if (slice_eq(name, SLICE_LIT("*")))
		which = STAR;
	else if (which == CODING_IDENTITY && !slice_eq_nocase(name, SLICE_LIT("identity")))
		return;
	if (weights[which] == UNNAMED || value < weights[which])
		weights[which] = value;
}

static int weight_of(const int *weights, enum coding coding, int otherwise)
{
	if (weights[coding] != UNNAMED)
		return weights[coding];
	return weights[STAR] != UNNAMED ? weights[STAR] : otherwise;
}

enum coding coding_choose(const struct field *fields, unsigned count, const uint8_t *offered, unsigned offers)
{
	int weights[CODINGS + 1], best = 0;
	enum coding chosen = CODING_IDENTITY;

	for (int i = 0; i <= CODINGS; i++)
		weights[i] = UNNAMED;
	for (unsigned i = 0; i < count; i++) {
		struct slice rest = fields[i].value;

		if (!slice_eq_nocase(fields[i].name, SLICE_LIT("accept-encoding")))
			continue;
		while (rest.at)
			note(weights, text_cut(rest, ',', &rest));
	}
	for (unsigned i = 0; i < offers; i++) {
		int value = weight_of(weights, offered[i], 0);

		if (value > best) {
			best = value;
			chosen = offered[i];
		}
	}
	return best >= weight_of(weights, CODING_IDENTITY, 1) ? chosen : CODING_IDENTITY;
}
