/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <stdlib.h>
#include <unistd.h>

struct file *file_new(int fd)
{
	struct file *f = malloc(sizeof *f);

	if (f)
		*f = (struct file){.fd = fd, .users = 1};
	else
		close(fd);
	return f;
}

struct file *file_view(struct file *f)
{
	struct file *view = malloc(sizeof *view);

	if (view)
		*view = (struct file){.fd = f->fd, .users = 1, .viewed = file_keep(f)};
	return view;
}

struct file *file_keep(struct file *f)
{
	f->users++;
	return f;
}

void file_give(struct file *f)
{
	if (--f->users > 0)
		return;
	if (f->viewed)
		file_give(f->viewed);
	else
		close(f->fd);
	free(f);
}
