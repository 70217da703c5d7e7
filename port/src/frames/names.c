/* SPDX-License-Identifier: Apache-2.0 */
#include "frames/names.h"

static const struct slice names[NAMES_COUNT] = {
#define NAME(name, index, text) [index] = {(const uint8_t *)(text), sizeof(text) - 1},
#include "frames/names.def"
#undef NAME
};

static const struct slice methods[METHODS_COUNT] = {
#define METHOD(name, index) [index] = {(const uint8_t *)#name, sizeof #name - 1},
#include "frames/methods.def"
#undef METHOD
};

enum { TABLE_SIZE = 256 };

/* The same for upper case: no name has a character that 0x20 would change. */
static unsigned hash(struct slice name)
{
	unsigned first = name.at[0] | 0x20, middle = name.at[name.len / 2] | 0x20, last = name.at[name.len - 1] | 0x20;

	return (unsigned)(name.len * 7 + first * 31 + middle * 17 + last * 3) % TABLE_SIZE;
}

/* slot -> index + 1; 0: free */
static uint8_t table[TABLE_SIZE];

static void fill_table(void)
{
	for (int i = 0; i < NAMES_COUNT; i++) {
		unsigned slot = hash(names[i]);
		while (table[slot])
			slot = (slot + 1) % TABLE_SIZE;
		table[slot] = (uint8_t)(i + 1);
	}
}

struct slice name_text(int index)
{
	return names[index];
}

static inline int find(struct slice name, bool (*same)(struct slice a, struct slice b))
{
	static bool filled;
	unsigned slot;

	if (!filled) {
		fill_table();
		filled = true;
	}
	if (name.len == 0)
		return NAME_UNKNOWN;
	for (slot = hash(name); table[slot]; slot = (slot + 1) % TABLE_SIZE)
		if (same(names[table[slot] - 1], name))
			return table[slot] - 1;
	return NAME_UNKNOWN;
}

int name_find(struct slice lower)
{
	return find(lower, slice_eq);
}

/* Most hosts write names in lower case. */
static bool same_nocase(struct slice a, struct slice b)
{
	return slice_eq(a, b) || slice_eq_nocase(a, b);
}

int name_find_nocase(struct slice name)
{
	return find(name, same_nocase);
}

int method_find(struct slice text)
{
	for (int i = 0; i < METHODS_COUNT; i++)
		if (slice_eq(text, methods[i]))
			return i;
	return METHOD_UNKNOWN;
}
