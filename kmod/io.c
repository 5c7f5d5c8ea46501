// SPDX-License-Identifier: GPL-2.0-only
/*
 * Execution of requests. The queue's worker tries what cannot block; the rest is punted to the device's workqueue,
 * which reads and writes the guest's memory as the owner's worker would.
 */
#include <linux/bvec.h>
#include <linux/falloc.h>
#include <linux/hash.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/pagemap.h>

#include "internal.h"
#include "trace.h"

/* Bounced requests go through a buffer of this order, or of one page. */
#define VHOST_BLK_BOUNCE_ORDER 4
/* How often a write to a frozen file system is tried again. */
#define VHOST_BLK_FROZEN_DELAY (HZ / 50)

/*
 * Held over reading, changing and writing back a block of which the guest writes a part, lest two such requests undo
 * each other. Shared between devices that hash alike.
 */
static struct mutex rmw_locks[16];

void __init vhost_blk_io_setup(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rmw_locks); i++)
		mutex_init(&rmw_locks[i]);
}

static struct mutex *vhost_blk_rmw_lock(struct file *file)
{
	return &rmw_locks[hash_ptr(file->f_mapping->host, ilog2(ARRAY_SIZE(rmw_locks)))];
}

/*
 * Keeps the file system from being frozen during a write. Never sleeps: on a frozen one that would be until somebody
 * thaws it, and a killed owner could not be released. Ended by vhost_blk_end_write(), in any context.
 */
static bool vhost_blk_try_start_write(struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;

	if (!S_ISREG(file_inode(file)->i_mode))
		return true;
	if (!sb_start_write_trylock(sb))
		return false;
	/* For lockdep: another task may end it. */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	return true;
}

static void vhost_blk_end_write(struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;

	if (!S_ISREG(file_inode(file)->i_mode))
		return;
	__sb_writers_acquired(sb, SB_FREEZE_WRITE);
	sb_end_write(sb);
}

/* Has the request executed where waiting is allowed, after that many jiffies. In any context. */
void vhost_blk_io_punt(struct vhost_blk_request *request, unsigned long delay)
{
	if (request->bios) {
		vhost_blk_bio_punt(request);
		return;
	}
	request->punts++;
	trace_vhost_blk_punt(request);
	queue_delayed_work(request->queue->blk->workqueue, &request->work, delay);
}

static void vhost_blk_end(struct vhost_blk_request *request, int error, bool here)
{
	if (here)
		vhost_blk_complete_here(request, error);
	else
		vhost_blk_complete(request, error);
}

/* Looks at the result of one attempt: done, failed, or to be gone on with where blocking is allowed. */
static void vhost_blk_io_result(struct vhost_blk_request *request, long ret, bool here)
{
	if (ret > 0) {
		request->transferred += ret;
		if (request->transferred >= request->length)
			vhost_blk_end(request, 0, here);
		else
			vhost_blk_io_punt(request, 0);
	} else if ((ret == -EAGAIN || ret == -EOPNOTSUPP) && request->iocb.ki_flags & IOCB_NOWAIT) {
		vhost_blk_io_punt(request, 0);
	} else if (ret == -EINVAL && request->queue->backend.direct && !request->bounce) {
		/* The file wants more alignment than it told. */
		request->bounce = true;
		vhost_blk_io_punt(request, 0);
	} else {
		/* Zero is the end of a file that somebody has truncated. */
		vhost_blk_end(request, ret ? ret : -EIO, here);
	}
}

static void vhost_blk_io_done(struct kiocb *iocb, long ret)
{
	struct vhost_blk_request *request = container_of(iocb, struct vhost_blk_request, iocb);

	if (vhost_blk_is_write(request))
		vhost_blk_end_write(iocb->ki_filp);
	vhost_blk_io_result(request, ret, false);
}

static void vhost_blk_init_iocb(struct vhost_blk_request *request, struct kiocb *iocb, loff_t position, bool write)
{
	struct file *file = request->queue->backend.file;

	/* init_sync_kiocb() needs a function that is not exported. */
	*iocb = (struct kiocb){
		.ki_filp = file,
		.ki_pos = position,
		.ki_flags = file->f_iocb_flags,
	};
	if (write)
		iocb->ki_flags |= IOCB_WRITE | (request->durable ? IOCB_DSYNC : 0);
}

/*
 * Not vfs_iocb_iter_write(): since 6.8 it waits for a frozen file system to thaw, and takes a second freeze
 * protection which an asynchronous completion would have to end too. The caller holds vhost_blk_try_start_write().
 */
static ssize_t vhost_blk_call(struct file *file, struct kiocb *iocb, struct iov_iter *iter, bool write)
{
	return write ? file->f_op->write_iter(iocb, iter) : vfs_iocb_iter_read(file, iocb, iter);
}

/*
 * Submits what is left of the request on the guest's own buffers. Returns what the file did; at -EIOCBQUEUED the
 * request is no longer the caller's. Freeze protection is handed on to the completion.
 */
static ssize_t vhost_blk_issue(struct vhost_blk_request *request, int flags)
{
	struct kiocb *iocb = &request->iocb;
	bool write = vhost_blk_is_write(request);
	struct file *file = request->queue->backend.file;
	/* Not the request's: a block device still writes to it after it has queued the I/O, which may be over then. */
	struct iov_iter iter;
	ssize_t ret;

	vhost_blk_init_iocb(request, iocb, request->position + request->transferred, write);
	iocb->ki_flags |= flags;
	iocb->ki_complete = vhost_blk_io_done;
	iov_iter_init(&iter, write ? ITER_SOURCE : ITER_DEST, request->segments, request->segment_count,
		      request->length);
	iov_iter_advance(&iter, request->transferred);
	ret = vhost_blk_call(file, iocb, &iter, write);
	if (ret != -EIOCBQUEUED && write)
		vhost_blk_end_write(file);
	return ret;
}

/* Does some buffer of the guest not suit O_DIRECT? */
static bool vhost_blk_misaligned(struct vhost_blk_request *request)
{
	struct vhost_blk_backend *backend = &request->queue->backend;
	unsigned int i;

	if ((request->position | request->length) & backend->block_mask)
		return true;
	for (i = 0; i < request->segment_count; i++)
		if ((unsigned long)request->segments[i].iov_base & backend->memory_mask ||
		    request->segments[i].iov_len & backend->block_mask)
			return true;
	return false;
}

/* Called by the queue's worker, which must not wait for storage. */
void vhost_blk_io_submit(struct vhost_blk_request *request)
{
	struct vhost_blk_backend *backend = &request->queue->backend;
	bool write = vhost_blk_is_write(request);
	ssize_t ret;

	request->bounce = backend->direct && vhost_blk_misaligned(request);
	/*
	 * Few file systems take buffered writes without blocking, and none a durable one; a file without FMODE_NOWAIT
	 * may block whatever it is told.
	 */
	if (request->bounce || !(backend->file->f_mode & FMODE_NOWAIT) ||
	    (write && !backend->direct && (request->durable || !vhost_blk_buffers_nowait(backend->file))) ||
	    (write && !vhost_blk_try_start_write(backend->file))) {
		vhost_blk_io_punt(request, 0);
		return;
	}
	ret = vhost_blk_issue(request, IOCB_NOWAIT);
	if (ret != -EIOCBQUEUED)
		vhost_blk_io_result(request, ret, true);
}

/* Reads or writes aligned bytes of the backend and waits. Returns 0 or an error; reads past the end give zeroes. */
static int vhost_blk_bounce_io(struct vhost_blk_request *request, struct page *page, loff_t position, size_t length,
			       bool write)
{
	struct file *file = request->queue->backend.file;
	struct bio_vec bvec;
	struct iov_iter iter;
	struct kiocb iocb;
	size_t done = 0;
	ssize_t ret;

	while (done < length) {
		vhost_blk_init_iocb(request, &iocb, position + done, write);
		bvec_set_page(&bvec, page, length - done, done);
		iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, &bvec, 1, length - done);
		ret = vhost_blk_call(file, &iocb, &iter, write);
		if (ret <= 0)
			return ret ? ret : -EIO;
		done += ret;
	}
	return 0;
}

/*
 * One piece of a bounced request, at most room bytes with the blocks' rests around it. Returns the bytes transferred.
 */
static ssize_t vhost_blk_bounce_piece(struct vhost_blk_request *request, struct page *page, size_t room,
				      struct iov_iter *iter)
{
	struct vhost_blk_backend *backend = &request->queue->backend;
	loff_t position = request->position + request->transferred;
	size_t skip = position & backend->block_mask;
	size_t length = min(room - skip, request->length - request->transferred);
	size_t span = (skip + length + backend->block_mask) & ~(size_t)backend->block_mask;
	struct mutex *lock = NULL;
	int r = 0;

	if (!vhost_blk_is_write(request)) {
		r = vhost_blk_bounce_io(request, page, position - skip, span, false);
		if (!r && copy_to_iter(page_address(page) + skip, length, iter) != length)
			r = -EFAULT;
		return r ? r : length;
	}
	if (span != length) {
		lock = vhost_blk_rmw_lock(backend->file);
		mutex_lock(lock);
		r = vhost_blk_bounce_io(request, page, position - skip, span, false);
	}
	if (!r && copy_from_iter(page_address(page) + skip, length, iter) != length)
		r = -EFAULT;
	if (!r)
		r = vhost_blk_bounce_io(request, page, position - skip, span, true);
	if (lock)
		mutex_unlock(lock);
	return r ? r : length;
}

/* Transfers what is left of the request through a buffer of our own. Returns the bytes, all of them, or an error. */
static ssize_t vhost_blk_bounce(struct vhost_blk_request *request)
{
	size_t left = request->length - request->transferred;
	unsigned int order = VHOST_BLK_BOUNCE_ORDER;
	struct iov_iter iter;
	struct page *page;
	ssize_t ret = 0;

	page = alloc_pages(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order);
	if (!page) {
		order = 0;
		page = alloc_page(GFP_KERNEL);
	}
	if (!page)
		return -ENOMEM;
	iov_iter_init(&iter, vhost_blk_is_write(request) ? ITER_SOURCE : ITER_DEST, request->segments,
		      request->segment_count, request->length);
	iov_iter_advance(&iter, request->transferred);
	while (left) {
		ret = vhost_blk_bounce_piece(request, page, PAGE_SIZE << order, &iter);
		if (ret < 0)
			break;
		request->transferred += ret;
		left -= ret;
	}
	__free_pages(page, order);
	return ret < 0 ? ret : 0;
}

/* A file system is frozen: again later. A killed owner must not wait for the thaw. */
static void vhost_blk_work_frozen(struct vhost_blk_request *request)
{
	if (READ_ONCE(request->queue->blk->dying))
		vhost_blk_complete(request, -EIO);
	else
		vhost_blk_io_punt(request, VHOST_BLK_FROZEN_DELAY);
}

static void vhost_blk_work_transfer(struct vhost_blk_request *request)
{
	struct vhost_blk *blk = request->queue->blk;
	struct mm_struct *mm = blk->dev.mm;
	bool write = vhost_blk_is_write(request);
	struct file *file = request->queue->backend.file;
	ssize_t ret;

	if (write && !vhost_blk_try_start_write(file)) {
		vhost_blk_work_frozen(request);
		return;
	}
	/* The core holds the owner's mm until vhost_dev_cleanup(), which comes after the last request. */
	kthread_use_mm(mm);
	if (write && check_stable_address_space(mm)) {
		/* The OOM killer is taking the owner's pages, which now read as zeroes: not what the guest wrote. */
		vhost_blk_end_write(file);
		ret = -EFAULT;
	} else if (request->bounce) {
		ret = vhost_blk_bounce(request);
		if (write)
			vhost_blk_end_write(file);
	} else {
		ret = vhost_blk_issue(request, 0);
		kthread_unuse_mm(mm);
		if (ret != -EIOCBQUEUED)
			vhost_blk_io_result(request, ret, false);
		return;
	}
	kthread_unuse_mm(mm);
	vhost_blk_complete(request, ret);
}

/*
 * Discards whole blocks of a block device: what the guest says beyond is but a hint. Not by vfs_fallocate(), which
 * discards only where the device promises zeroes.
 */
static int vhost_blk_discard_blocks(struct file *file, loff_t position, loff_t length)
{
	struct address_space *mapping = file->f_mapping;
	struct block_device *bdev = I_BDEV(mapping->host);
	loff_t block = bdev_logical_block_size(bdev);
	loff_t start = round_up(position, block), end = round_down(position + length, block);
	int r;

	if (!bdev_max_discard_sectors(bdev))
		return -EOPNOTSUPP;
	if (bdev_read_only(bdev))
		return -EPERM;
	if (start >= end)
		return 0;
	/* Others' pages: dirty ones reach the device before it forgets, and none comes back from it meanwhile. */
	r = filemap_write_and_wait_range(mapping, start, end - 1);
	if (r)
		return r;
	filemap_invalidate_lock(mapping);
	/* A page that somebody writes at this very moment is better kept. */
	if (!invalidate_inode_pages2_range(mapping, start >> PAGE_SHIFT, (end - 1) >> PAGE_SHIFT))
		r = blkdev_issue_discard(bdev, start >> SECTOR_SHIFT, (end - start) >> SECTOR_SHIFT, GFP_KERNEL);
	filemap_invalidate_unlock(mapping);
	return r;
}

static int vhost_blk_change_range(struct vhost_blk_request *request, loff_t position, loff_t length, bool unmap)
{
	struct file *file = request->queue->backend.file;
	int r = -EOPNOTSUPP;

	if (request->type == VIRTIO_BLK_T_DISCARD && S_ISBLK(file_inode(file)->i_mode))
		return vhost_blk_discard_blocks(file, position, length);
	if (request->type == VIRTIO_BLK_T_DISCARD)
		return vfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, length);
	if (unmap)
		r = vfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, position, length);
	if (r == -EOPNOTSUPP)
		r = vfs_fallocate(file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, position, length);
	return r;
}

/*
 * Makes zeroes of a part of one block as a write of the guest would. A block device refuses it to fallocate(), and a
 * file system does it in its page cache, where it and a write of the block's rest would undo each other. EAGAIN: the
 * file system is frozen.
 */
static int vhost_blk_zero_part(struct vhost_blk_request *request, loff_t position, size_t length)
{
	struct vhost_blk_backend *backend = &request->queue->backend;
	size_t skip = position & backend->block_mask, span = backend->block_mask + 1;
	struct mutex *lock = vhost_blk_rmw_lock(backend->file);
	struct page *page = alloc_pages(GFP_KERNEL, get_order(span));
	int r = -EAGAIN;

	if (!page)
		return -ENOMEM;
	if (vhost_blk_try_start_write(backend->file)) {
		mutex_lock(lock);
		r = vhost_blk_bounce_io(request, page, position - skip, span, false);
		if (!r) {
			memset(page_address(page) + skip, 0, length);
			r = vhost_blk_bounce_io(request, page, position - skip, span, true);
		}
		mutex_unlock(lock);
		vhost_blk_end_write(backend->file);
	}
	__free_pages(page, get_order(span));
	return r;
}

/* The guest's sectors may be smaller than the backend's blocks. Of a discard, what is no whole block is let be. */
static int vhost_blk_work_range(struct vhost_blk_request *request, loff_t position, loff_t length, bool unmap)
{
	loff_t mask = request->queue->backend.block_mask, end = position + length;
	loff_t first = (position + mask) & ~mask, last = end & ~mask;
	int r = 0;

	if (first < last)
		r = vhost_blk_change_range(request, first, last - first, unmap);
	if (r || request->type == VIRTIO_BLK_T_DISCARD)
		return r;
	if (first > last)
		return vhost_blk_zero_part(request, position, length);
	if (position < first)
		r = vhost_blk_zero_part(request, position, first - position);
	if (!r && last < end)
		r = vhost_blk_zero_part(request, last, end - last);
	return r;
}

/* Discard and write zeroes go by the file, which keeps the page cache coherent. */
static void vhost_blk_work_ranges(struct vhost_blk_request *request)
{
	struct file *file = request->queue->backend.file;
	unsigned int i;
	int r = 0;

	/* vfs_fallocate() waits for a frozen file system: look first. It may still be frozen in between. */
	if (!vhost_blk_try_start_write(file)) {
		vhost_blk_work_frozen(request);
		return;
	}
	vhost_blk_end_write(file);

	for (i = 0; i < request->range_count && !r; i++) {
		const struct virtio_blk_discard_write_zeroes *range = &request->ranges[i];
		loff_t position = request->position + (le64_to_cpu(range->sector) << SECTOR_SHIFT);
		loff_t length = (loff_t)le32_to_cpu(range->num_sectors) << SECTOR_SHIFT;

		if (length)
			r = vhost_blk_work_range(request, position, length,
						 le32_to_cpu(range->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	}
	if (r == -EAGAIN) {
		vhost_blk_work_frozen(request);
		return;
	}
	if (!r && request->durable)
		r = vfs_fsync(file, 1);
	vhost_blk_complete(request, r);
}

static void vhost_blk_work(struct work_struct *work)
{
	struct vhost_blk_request *request = container_of(to_delayed_work(work), struct vhost_blk_request, work);

	vhost_blk_charge(request->queue->blk);
	switch (request->type) {
	case VIRTIO_BLK_T_FLUSH:
		vhost_blk_complete(request, vfs_fsync(request->queue->backend.file, 1));
		break;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		vhost_blk_work_ranges(request);
		break;
	default:
		vhost_blk_work_transfer(request);
	}
	vhost_blk_uncharge();
}

/* Called by the queue's worker. */
void vhost_blk_io_flush(struct vhost_blk_request *request)
{
	if (!vhost_blk_bio_flush(request))
		vhost_blk_io_punt(request, 0);
}

void vhost_blk_io_init(struct vhost_blk_request *request)
{
	INIT_DELAYED_WORK(&request->work, vhost_blk_work);
}
