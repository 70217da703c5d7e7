/* SPDX-License-Identifier: Apache-2.0 */
/* Names of header fields, and methods, as indices (PROTOCOL.md sections 1.2 and 1.3). */
#ifndef SPARX_FRAMES_NAMES_H
#define SPARX_FRAMES_NAMES_H

#include "base/slice.h"

enum name {
	NAME_UNKNOWN = -1,
#define NAME(name, index, text) NAME_##name = (index),
#include "frames/names.def"
#undef NAME
	NAMES_COUNT
};

enum method {
	METHOD_UNKNOWN = -1,
#define METHOD(name, index) METHOD_##name = (index),
#include "frames/methods.def"
#undef METHOD
	METHODS_COUNT
};

struct slice name_text(int index);
/* The index of a name in lower case; NAME_UNKNOWN if it has none. */
int name_find(struct slice lower);
/* The same for a name in any case. */
int name_find_nocase(struct slice name);

/* The index of a method; METHOD_UNKNOWN if it has none. */
int method_find(struct slice text);

#endif
