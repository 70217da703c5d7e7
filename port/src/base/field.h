/* SPDX-License-Identifier: Apache-2.0 */
/* One header or trailer field. */
#ifndef SPARX_BASE_FIELD_H
#define SPARX_BASE_FIELD_H

#include "base/slice.h"

struct field {
	struct slice name;  /* as the sender wrote it; lower case if the port did */
	struct slice value; /* without white space around it */
	int index;          /* index into the table of names (frames/names.h), -1 if it has none */
};

#endif
