// SPDX-License-Identifier: GPL-2.0-only
/* Which open files may back a disk, and what O_DIRECT demands of buffers there. */
#include <linux/stat.h>

#include "internal.h"

/* Fills in the alignment; where the file system does not tell, a whole page suits every one of them. */
static int vhost_blk_backend_alignment(struct vhost_blk_backend *backend)
{
	struct inode *inode = file_inode(backend->file);
	struct kstat stat;
	int r;

	if (S_ISBLK(inode->i_mode)) {
		struct block_device *bdev = I_BDEV(backend->file->f_mapping->host);

		backend->bdev = bdev;
		backend->memory_mask = bdev_dma_alignment(bdev);
		backend->block_mask = bdev_logical_block_size(bdev) - 1;
	} else {
		backend->memory_mask = PAGE_SIZE - 1;
		backend->block_mask = PAGE_SIZE - 1;
		r = vfs_getattr(&backend->file->f_path, &stat, STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT);
		if (r)
			return r;
		if (stat.result_mask & STATX_DIOALIGN && stat.dio_mem_align && stat.dio_offset_align) {
			backend->memory_mask = stat.dio_mem_align - 1;
			backend->block_mask = stat.dio_offset_align - 1;
		} else if (backend->size & backend->block_mask) {
			/* Its size is no multiple of a page: it must take sectors. */
			backend->block_mask = SECTOR_SIZE - 1;
		}
	}
	/* A bounced block must fit a page, and a write must not reach past the end to fill its last block. */
	if (backend->block_mask >= PAGE_SIZE || backend->size & backend->block_mask)
		return -EINVAL;
	return 0;
}

/*
 * Takes the caller's descriptor. EBADF: not open, or not for reading; EINVAL: neither a regular file nor a block
 * device, opened with O_APPEND (which would ignore the position of a write), unable to do asynchronous I/O, or with
 * O_DIRECT and a size that is no multiple of its blocks; ETXTBSY: a swap file.
 */
int vhost_blk_backend_open(struct vhost_blk_backend *backend, int fd)
{
	struct file *file = fget(fd);
	struct inode *inode;
	int r = -EINVAL;

	if (!file)
		return -EBADF;
	inode = file->f_mapping->host;
	*backend = (struct vhost_blk_backend){ .file = file };
	if (!S_ISREG(file_inode(file)->i_mode) && !S_ISBLK(file_inode(file)->i_mode))
		goto err;
	if (file->f_flags & O_APPEND || IS_APPEND(inode))
		goto err;
	r = -EBADF;
	if (!(file->f_mode & FMODE_READ))
		goto err;
	r = -EINVAL;
	if (!file->f_op->read_iter || (file->f_mode & FMODE_WRITE && !file->f_op->write_iter))
		goto err;
	r = -ETXTBSY;
	if (IS_SWAPFILE(inode))
		goto err;

	backend->size = i_size_read(inode);
	backend->direct = file->f_flags & O_DIRECT;
	if (backend->direct) {
		r = vhost_blk_backend_alignment(backend);
		if (r)
			goto err;
	} else if (S_ISBLK(file_inode(file)->i_mode)) {
		/* The page cache takes any write, but not any discard. */
		backend->block_mask = bdev_logical_block_size(I_BDEV(inode)) - 1;
	}
	return 0;
err:
	vhost_blk_backend_put(backend);
	return r;
}

/*
 * May the backend serve a disk of this configuration? ENODATA: no capacity has been set; ENOSPC: the backend is
 * smaller than that; EBADF: a writable disk on a file not open for writing.
 */
int vhost_blk_backend_check(const struct vhost_blk_backend *backend, const struct vhost_blk_config *config)
{
	if (!config->capacity)
		return -ENODATA;
	if (config->offset > backend->size || config->capacity > backend->size - config->offset)
		return -ENOSPC;
	if (!(config->flags & VHOST_BLK_CONFIG_READ_ONLY) && !(backend->file->f_mode & FMODE_WRITE))
		return -EBADF;
	return 0;
}

void vhost_blk_backend_put(struct vhost_blk_backend *backend)
{
	if (backend->file)
		fput(backend->file);
	backend->file = NULL;
}
