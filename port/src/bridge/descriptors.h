/* Descriptors that the host hands over, each for one thing: a file for the response of a stream, or a socket to listen on. */
#ifndef SPARX_BRIDGE_DESCRIPTORS_H
#define SPARX_BRIDGE_DESCRIPTORS_H

#include "base/file.h"
#include "bridge/exchange.h"

/* Connects to the host's socket, if it has named one. Where that cannot be, the host goes without. */
void descriptors_begin(struct bridge *b);
/* Waits for the sockets that the host is to listen on. False: fault says what is wrong with them. */
bool descriptors_await_listeners(struct bridge *b, struct config_fault *fault);
void descriptors_end(struct bridge *b);
/* The file of this exchange with this token. NULL: there is none. */
struct file *descriptors_find(struct exchange *x, uint64_t token);
/* No message will name the files of this exchange any more: those that are not being sent are closed. */
void descriptors_forget(struct exchange *x);

#endif
