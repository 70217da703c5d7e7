/* Descriptors that the host hands over, each for one thing: a file for the response of a stream. */
#ifndef SPARX_BRIDGE_DESCRIPTORS_H
#define SPARX_BRIDGE_DESCRIPTORS_H

#include "base/file.h"
#include "bridge/exchange.h"

/* Connects to the host's socket, if it has named one. Where that cannot be, the host goes without. */
void descriptors_begin(struct bridge *b);
void descriptors_end(struct bridge *b);
/* No message will name the files of this exchange any more: those that are not being sent are closed. */
void descriptors_forget(struct exchange *x);

#endif
