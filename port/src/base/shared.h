/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the host shares with this process: slots that the host fills and this process only reads. A slot is in use from the
 * message that names it, alone or with the following ones, until the last of its bytes has been written; then its number is
 * returned to the host.
 * There is one
 * region in a process.
 */
#ifndef SPARX_BASE_SHARED_H
#define SPARX_BASE_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHARED_SLOT = 4096, SHARED_SLOTS_MAX = 262144 };

/* Sets the region's bytes, which must stay mapped until shared_end. False: out of memory. */
bool shared_begin(const void *bytes, uint32_t slots);
void shared_end(void);
/* 0: there is no region. */
uint32_t shared_slots(void);
/* Whether n bytes from the beginning of this slot on, which may reach into following slots, are in the region. */
bool shared_fits(uint64_t slot, uint64_t n);
/* Whether one of their slots is in use, or was not yet returned by shared_next_free. They fit. */
bool shared_is_used(uint32_t slot, size_t n);
uint32_t shared_used(void);

const uint8_t *shared_bytes(uint32_t slot);
/* Whether these bytes lie in the region. */
bool shared_has(const void *bytes);
/* For users that keep n > 0 bytes; the same bytes are returned once. */
void shared_keep(const void *bytes, size_t n);
void shared_give(const void *bytes, size_t n);

/* Adjacent slots that are no longer in use, each returned once. 0: there are none. */
uint32_t shared_next_free(uint32_t *first);

#endif
