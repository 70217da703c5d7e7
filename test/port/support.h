/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests share: growing texts, a notation for msgpack, and random numbers that are the same in every run.
 *
 * The notation writes messages as PROTOCOL.md section 9 does: [RESPOND, 1, 200, ['content-type', 'text/plain'], 'Hello'].
 *   7  -1  nil  true  false  [a, b]  {'key': value}      what they look like
 *   NAME                                                 the number of that kind of message
 *   'text'  b'bytes'  'x'*5000                           str, bin, and a repeated one
 */
#ifndef SPARX_TEST_SUPPORT_H
#define SPARX_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/slice.h"

/* ---- texts ---- */

/* Starts as {0}; always ends with a NUL once something was added. */
struct text {
	struct buf buf;
};

void text_add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* So many letters. */
void text_add_run(struct text *t, size_t n);
/* As they are. */
void text_add_bytes(struct text *t, const void *bytes, size_t n);
/* Makes it readable: unprintable bytes become \xNN, and a long run of one byte x*5000. */
void text_add_quoted(struct text *t, struct slice bytes);
const char *text_str(struct text *t);
void text_clear(struct text *t);
void text_free(struct text *t);

void expect_text_at(struct text *t, const char *wanted, const char *file, int line);
void expect_slice_at(struct slice got, const char *wanted, const char *file, int line);
/* Compares, and clears. */
#define EXPECT_TEXT(t, wanted) expect_text_at(t, wanted, __FILE__, __LINE__)
#define EXPECT_SLICE(got, wanted) expect_slice_at(got, wanted, __FILE__, __LINE__)

/* ---- the notation ---- */

/* Appends the msgpack of all values in the text. */
void notation_pack(struct buf *out, const char *text);
/* A frame: the length, and the messages in the text. */
void notation_frame(struct buf *out, const char *text);
/* Takes one value from the front and prints it. A message's kind is printed as its name; REQUEST's head is opened: <[...]>. */
void notation_print(struct text *t, struct slice *in, bool message);

/* ---- tests that cannot run everywhere ---- */

bool under_valgrind(void);
/* Ends the test, and says so. */
void skip_because(const char *why);

/* ---- random numbers ---- */

uint32_t random_next(uint32_t *state);
/* 0 to below - 1 */
uint32_t random_below(uint32_t *state, uint32_t below);

/* A copy of exactly these bytes on the heap, so that reading beyond them is found. To be freed. */
uint8_t *exact_copy(const void *bytes, size_t n);

#endif
