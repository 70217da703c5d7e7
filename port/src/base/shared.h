/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the host shares with this process: slots that the host fills and this process only reads. A slot is used from the message that
 * names it until the last of its bytes has been written; then its number goes back to the host. There is one region in a process.
 */
#ifndef SPARX_BASE_SHARED_H
#define SPARX_BASE_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHARED_SLOT = 65536, SHARED_SLOTS_MAX = 16384 };

/* The region's bytes, which stay where they are until shared_end. False: out of memory. */
bool shared_begin(const void *bytes, uint32_t slots);
void shared_end(void);
/* 0: there is no region. */
uint32_t shared_slots(void);
/* Whether a slot is in use. */
bool shared_is_used(uint32_t slot);
uint32_t shared_used(void);

const uint8_t *shared_bytes(uint32_t slot);
/* Whether these bytes are of the region. */
bool shared_has(const void *bytes);
/* For whoever keeps bytes of a slot; each is given back once. */
void shared_keep(const void *bytes);
void shared_give(const void *bytes);

/* A slot that is no longer in use, each once. False: there is none. */
bool shared_next_free(uint32_t *slot);

#endif
