/* SPDX-License-Identifier: Apache-2.0 */
#include "base/shared.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Users of a slot that nobody uses any more, but that was not yet reported to the host. */
#define UNREPORTED UINT32_MAX

static struct {
	const uint8_t *bytes;
	uint32_t slots, used, free_count;
	uint32_t *users; /* of each slot; UNREPORTED */
	uint32_t *free;  /* free slots that were not yet reported to the host */
} region;

bool shared_begin(const void *bytes, uint32_t slots)
{
	assert(!region.bytes && slots > 0 && slots <= SHARED_SLOTS_MAX);
	region.users = calloc(slots, sizeof *region.users);
	region.free = calloc(slots, sizeof *region.free);
	if (!region.users || !region.free) {
		shared_end();
		return false;
	}
	region.bytes = bytes;
	region.slots = slots;
	return true;
}

void shared_end(void)
{
	free(region.users);
	free(region.free);
	memset(&region, 0, sizeof region);
}

uint32_t shared_slots(void)
{
	return region.slots;
}

/* How many slots n bytes from the beginning of a slot occupy. */
static uint64_t slots_of(uint64_t n)
{
	return n / SHARED_SLOT + (n % SHARED_SLOT > 0);
}

bool shared_fits(uint64_t slot, uint64_t n)
{
	return slot < region.slots && slots_of(n) <= region.slots - slot;
}

bool shared_is_used(uint32_t slot, size_t n)
{
	for (uint64_t i = 0; i < slots_of(n); i++)
		if (region.users[slot + i] > 0)
			return true;
	return false;
}

uint32_t shared_used(void)
{
	return region.used;
}

const uint8_t *shared_bytes(uint32_t slot)
{
	return region.bytes + (size_t)slot * SHARED_SLOT;
}

bool shared_has(const void *bytes)
{
	const uint8_t *at = bytes;

	return region.bytes && at >= region.bytes && at < region.bytes + (size_t)region.slots * SHARED_SLOT;
}

static uint32_t slot_of(const void *bytes)
{
	return (uint32_t)((size_t)((const uint8_t *)bytes - region.bytes) / SHARED_SLOT);
}

void shared_keep(const void *bytes, size_t n)
{
	uint32_t last = slot_of((const uint8_t *)bytes + n - 1);

	assert(n > 0 && shared_has(bytes) && last < region.slots);
	for (uint32_t slot = slot_of(bytes); slot <= last; slot++)
		region.used += region.users[slot]++ == 0;
}

/* A slot is in the list only once: until it is reported, the host cannot use it again. */
static void give_slot(uint32_t slot)
{
	assert(region.users[slot] > 0 && region.users[slot] != UNREPORTED);
	if (--region.users[slot] > 0)
		return;
	region.users[slot] = UNREPORTED;
	region.used--;
	region.free[region.free_count++] = slot;
}

void shared_give(const void *bytes, size_t n)
{
	uint32_t last = slot_of((const uint8_t *)bytes + n - 1);

	assert(n > 0 && shared_has(bytes));
	for (uint32_t slot = slot_of(bytes); slot <= last; slot++)
		give_slot(slot);
}

/* They were returned in order, and the last one is used first. */
uint32_t shared_next_free(uint32_t *first)
{
	uint32_t count = 0;

	while (region.free_count > 0 && (count == 0 || region.free[region.free_count - 1] + 1 == *first)) {
		*first = region.free[--region.free_count];
		region.users[*first] = 0;
		count++;
	}
	return count;
}
