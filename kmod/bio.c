// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fast path: a block device opened with O_DIRECT is read and written by bios of our own, straight into and out of
 * the guest's pages.
 *
 * The page cache of others who have the device open stays coherent as it does with their own O_DIRECT: a range with
 * pages of which a read or write would have to know goes by the file instead (io.c), where waiting is allowed.
 *
 * The pages are pinned when a request is submitted and unpinned when it is reaped, by the worker or a drain: there, in
 * process context, those that were read into can be marked dirty.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "internal.h"
#include "trace.h"

/* Longer requests go by the file: a hostile guest could make us hold a gigabyte of vectors otherwise. */
#define VHOST_BLK_BIO_BYTES SZ_16M
/* Pages pinned in one go. */
#define VHOST_BLK_PIN_BATCH 16

static void vhost_blk_bio_end(struct bio *bio);

static void vhost_blk_bio_init(struct vhost_blk_request *request, struct vhost_blk_bio *part, struct bio_vec *vecs,
			       unsigned int count)
{
	part->next = NULL;
	bio_init(&part->bio, request->queue->backend.bdev, vecs, count, 0);
}

/* Starts with the request's own bio. Called in the context of the owner's worker, whose cgroup pays. */
static void vhost_blk_bio_begin(struct vhost_blk_request *request)
{
	request->bios = &request->inline_bio;
	request->bio_count = 1;
	vhost_blk_bio_init(request, request->bios, request->inline_vecs, VHOST_BLK_INLINE_VECS);
}

/*
 * Makes room for more vectors after last, which is full: another bio with room for that many, or, if last is the
 * request's own, a larger one in its place. Returns the bio to go on with, NULL without memory.
 */
static struct vhost_blk_bio *vhost_blk_bio_extend(struct vhost_blk_request *request, struct vhost_blk_bio *last,
						  unsigned int room)
{
	unsigned int used = last == &request->inline_bio ? last->bio.bi_vcnt : 0;
	unsigned int count = min_t(unsigned int, used + room, BIO_MAX_VECS);
	struct bio_vec *vecs;
	struct vhost_blk_bio *part = kmalloc(sizeof(*part) + count * sizeof(*vecs), GFP_KERNEL_ACCOUNT);

	if (!part)
		return NULL;
	vecs = (struct bio_vec *)(part + 1);
	vhost_blk_bio_init(request, part, vecs, count);
	if (!used) {
		last->next = part;
		request->bio_count++;
		return part;
	}
	memcpy(vecs, request->inline_vecs, used * sizeof(*vecs));
	part->bio.bi_vcnt = used;
	part->bio.bi_iter.bi_size = last->bio.bi_iter.bi_size;
	bio_uninit(&last->bio);
	request->bios = part;
	return part;
}

/* Does the page continue the last vector, in the same folio? */
static bool vhost_blk_bio_merge(struct bio *bio, struct page *page, unsigned int length, unsigned int offset)
{
	struct bio_vec *bv;
	size_t end;

	if (!bio->bi_vcnt || offset)
		return false;
	bv = &bio->bi_io_vec[bio->bi_vcnt - 1];
	end = (size_t)bv->bv_offset + bv->bv_len;
	/* Only at the end of a page: a vector holds one pin for each of its pages. */
	if (offset_in_page(end) || page_to_pfn(page) != page_to_pfn(bv->bv_page) + (end >> PAGE_SHIFT) ||
	    page_folio(page) != page_folio(bv->bv_page))
		return false;
	bv->bv_len += length;
	bio->bi_iter.bi_size += length;
	return true;
}

/* Pins that part of the owner's memory and adds it. room: the most vectors that the rest of the request can take. */
static int vhost_blk_bio_add(struct vhost_blk_request *request, struct vhost_blk_bio **last, unsigned long address,
			     size_t length, unsigned int *room)
{
	unsigned int flags = vhost_blk_is_write(request) ? 0 : FOLL_WRITE;
	struct page *pages[VHOST_BLK_PIN_BATCH];

	while (length) {
		size_t offset = offset_in_page(address);
		int i, count = min_t(size_t, DIV_ROUND_UP(offset + length, PAGE_SIZE), ARRAY_SIZE(pages));

		count = pin_user_pages_fast(address - offset, count, flags, pages);
		if (count <= 0)
			return count ? count : -EFAULT;
		for (i = 0; i < count; i++, (*room)--) {
			size_t part = min(PAGE_SIZE - offset, length);

			if (!vhost_blk_bio_merge(&(*last)->bio, pages[i], part, offset)) {
				if ((*last)->bio.bi_vcnt == (*last)->bio.bi_max_vecs) {
					struct vhost_blk_bio *more = vhost_blk_bio_extend(request, *last, *room);

					if (!more) {
						unpin_user_pages(pages + i, count - i);
						return -ENOMEM;
					}
					*last = more;
				}
				__bio_add_page(&(*last)->bio, pages[i], part, offset);
			}
			address += part;
			length -= part;
			offset = 0;
		}
	}
	return 0;
}

/*
 * How many pages do the segments touch, at most? Zero if one of them does not suit O_DIRECT. skip: leading bytes which
 * are not data.
 */
static unsigned int vhost_blk_bio_pages(const struct vhost_blk_backend *backend, const struct iovec *iov,
					unsigned int count, size_t skip)
{
	unsigned int i, pages = 0;

	for (i = 0; i < count; i++) {
		size_t cut = min(skip, iov[i].iov_len);
		unsigned long address = (unsigned long)iov[i].iov_base + cut;
		size_t length = iov[i].iov_len - cut;

		skip -= cut;
		if (!length)
			continue;
		if (address & backend->memory_mask || length & backend->block_mask)
			return 0;
		pages += DIV_ROUND_UP(offset_in_page(address) + length, PAGE_SIZE);
	}
	return pages;
}

/* Must others' pages in the cache be written back before this, or dropped? Wrong only about what races with it. */
static bool vhost_blk_bio_cached(struct vhost_blk_request *request)
{
	struct address_space *mapping = request->queue->backend.file->f_mapping;
	loff_t end = request->position + request->length - 1;

	if (likely(!mapping->nrpages))
		return false;
	return vhost_blk_is_write(request) ? filemap_range_has_page(mapping, request->position, end) :
					     filemap_range_needs_writeback(mapping, request->position, end);
}

/*
 * Is it worth the block layer's while to look for neighbours? Without a scheduler it finds but the bio before this one;
 * a device made of others may have schedulers below.
 */
static bool vhost_blk_bio_may_merge(struct vhost_blk_request *request, sector_t sector)
{
	struct vhost_blk_queue *queue = request->queue;
	struct request_queue *q = bdev_get_queue(queue->backend.bdev);
	bool adjoins = READ_ONCE(queue->next_sector) == sector;

	WRITE_ONCE(queue->next_sector, sector + (request->length >> SECTOR_SHIFT));
	return adjoins || request->bio_count > 1 || !queue_is_mq(q) || READ_ONCE(q->elevator);
}

/*
 * Submits the request's bios, which must be built or reset for it. They may complete at once: the request is no longer
 * the caller's.
 */
static void vhost_blk_bio_send(struct vhost_blk_request *request, bool nowait)
{
	sector_t sector = request->position >> SECTOR_SHIFT;
	struct vhost_blk_bio *part, *next;
	blk_opf_t opf = nowait ? REQ_NOWAIT : 0;

	if (request->type == VIRTIO_BLK_T_FLUSH)
		opf |= REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC;
	else if (vhost_blk_is_write(request))
		opf |= REQ_OP_WRITE | REQ_SYNC | REQ_IDLE | (request->durable ? REQ_FUA : 0);
	else
		opf |= REQ_OP_READ;
	if (!vhost_blk_bio_may_merge(request, sector))
		opf |= REQ_NOMERGE;
	request->bio_status = BLK_STS_OK;
	request->bio_nowait = nowait;
	atomic_set(&request->bios_pending, request->bio_count);
	/* The list stays while one of them is not submitted. */
	for (part = request->bios; part; part = next) {
		struct bio *bio = &part->bio;

		next = part->next;
		bio->bi_opf = opf;
		bio->bi_iter.bi_sector = sector;
		bio->bi_private = request;
		bio->bi_end_io = vhost_blk_bio_end;
		sector += bio->bi_iter.bi_size >> SECTOR_SHIFT;
		submit_bio(bio);
	}
}

/* Has a request's bios submitted, for the first time or again, where waiting is allowed. In any context. */
void vhost_blk_bio_punt(struct vhost_blk_request *request)
{
	struct vhost_blk_queue *queue = request->queue;

	request->punts++;
	trace_vhost_blk_punt(request);
	/* As in vhost_blk_complete(): the work may already be at it when it is queued. */
	rcu_read_lock();
	if (llist_add(&request->done_node, &queue->resubmit))
		queue_work(queue->blk->workqueue, &queue->resubmit_work);
	rcu_read_unlock();
}

static void vhost_blk_bio_start(struct vhost_blk_request *request)
{
	if (bdev_nowait(request->queue->backend.bdev))
		vhost_blk_bio_send(request, true);
	else
		vhost_blk_bio_punt(request);
}

/* As vhost_blk_bio_transfer(), for what most requests are: one buffer within a page. */
static bool vhost_blk_bio_transfer_page(struct vhost_blk_request *request, const struct iovec *iov)
{
	struct vhost_blk_backend *backend = &request->queue->backend;
	unsigned long address = (unsigned long)iov->iov_base;
	struct page *page;

	if (address & backend->memory_mask ||
	    pin_user_pages_fast(address & PAGE_MASK, 1, vhost_blk_is_write(request) ? 0 : FOLL_WRITE, &page) != 1)
		return false;
	vhost_blk_bio_begin(request);
	__bio_add_page(&request->inline_bio.bio, page, iov->iov_len, offset_in_page(address));
	vhost_blk_bio_start(request);
	return true;
}

/*
 * Reads or writes the request's data, found in these segments but for their first skip bytes, if bios can. Called by
 * the queue's worker; never waits for storage. False: it has to go by the file, and nothing has been done.
 */
bool vhost_blk_bio_transfer(struct vhost_blk_request *request, const struct iovec *iov, unsigned int count,
			    size_t skip)
{
	struct vhost_blk_backend *backend = &request->queue->backend;
	struct vhost_blk_bio *last;
	unsigned int i, room;

	if (!backend->bdev || request->length > VHOST_BLK_BIO_BYTES ||
	    (request->position | request->length) & backend->block_mask ||
	    (vhost_blk_is_write(request) && bdev_read_only(backend->bdev)) || vhost_blk_bio_cached(request))
		return false;
	if (count == 1 && !skip && offset_in_page(iov->iov_base) + iov->iov_len <= PAGE_SIZE)
		return vhost_blk_bio_transfer_page(request, iov);
	room = vhost_blk_bio_pages(backend, iov, count, skip);
	if (!room)
		return false;
	vhost_blk_bio_begin(request);
	last = request->bios;
	for (i = 0; i < count; i++) {
		size_t cut = min(skip, iov[i].iov_len);

		skip -= cut;
		if (vhost_blk_bio_add(request, &last, (unsigned long)iov[i].iov_base + cut, iov[i].iov_len - cut,
				      &room)) {
			/* Memory that is not there, or none for vectors: the file's way tells which. */
			vhost_blk_bio_release(request);
			return false;
		}
	}
	vhost_blk_bio_start(request);
	return true;
}

/*
 * Flushes the device if no page in its cache, whoever wrote it, is on the way there, nor was one lost. Called by the
 * queue's worker. False: vfs_fsync() has to do it.
 */
bool vhost_blk_bio_flush(struct vhost_blk_request *request)
{
	struct vhost_blk_backend *backend = &request->queue->backend;
	struct address_space *mapping;

	if (!backend->bdev || bdev_read_only(backend->bdev))
		return false;
	mapping = backend->file->f_mapping;
	if (mapping->nrpages) {
		if (mapping_tagged(mapping, PAGECACHE_TAG_DIRTY))
			return false;
		/* A page gets this tag before it loses the other. */
		smp_rmb();
		if (mapping_tagged(mapping, PAGECACHE_TAG_WRITEBACK))
			return false;
	}
	if (filemap_check_wb_err(mapping, backend->file->f_wb_err))
		return false;
	request->position = 0;
	vhost_blk_bio_begin(request);
	vhost_blk_bio_start(request);
	return true;
}

/* In any context. */
static void vhost_blk_bio_end(struct bio *bio)
{
	struct vhost_blk_request *request = bio->bi_private;
	blk_status_t status;

	if (unlikely(bio->bi_status))
		WRITE_ONCE(request->bio_status, bio->bi_status);
	if (!atomic_dec_and_test(&request->bios_pending))
		return;
	status = READ_ONCE(request->bio_status);
	if (likely(!status)) {
		request->transferred = request->length;
		vhost_blk_complete(request, 0);
	} else if (request->bio_nowait && (status == BLK_STS_AGAIN || status == BLK_STS_NOTSUPP)) {
		vhost_blk_bio_punt(request);
	} else {
		vhost_blk_complete(request, blk_status_to_errno(status));
	}
}

/* Makes the bios of a request whole again after an attempt. */
static void vhost_blk_bio_rewind(struct vhost_blk_request *request)
{
	struct vhost_blk_bio *part;

	for (part = request->bios; part; part = part->next) {
		struct bio *bio = &part->bio;
		unsigned short i, count = bio->bi_vcnt;

		bio_reset(bio, request->queue->backend.bdev, 0);
		bio->bi_vcnt = count;
		for (i = 0; i < count; i++)
			bio->bi_iter.bi_size += bio->bi_io_vec[i].bv_len;
	}
}

/* Submits what could not be without waiting: one thread waits for a full device, whatever the number of requests. */
void vhost_blk_bio_resubmit(struct work_struct *work)
{
	struct vhost_blk_queue *queue = container_of(work, struct vhost_blk_queue, resubmit_work);
	struct vhost_blk_request *request, *next;
	struct llist_node *list = llist_reverse_order(llist_del_all(&queue->resubmit));
	struct blk_plug plug;

	if (!list)
		return;
	vhost_blk_charge(queue->blk);
	blk_start_plug(&plug);
	llist_for_each_entry_safe(request, next, list, done_node) {
		vhost_blk_bio_rewind(request);
		vhost_blk_bio_send(request, false);
	}
	blk_finish_plug(&plug);
	vhost_blk_uncharge();
}

/* Drops the pages that a guest's write has made stale but which came into the cache while it was under way. */
static void vhost_blk_bio_invalidate(struct vhost_blk_request *request)
{
	struct address_space *mapping = request->queue->backend.file->f_mapping;

	if (unlikely(mapping->nrpages) && request->length)
		invalidate_mapping_pages(mapping, request->position >> PAGE_SHIFT,
					 (request->position + request->length - 1) >> PAGE_SHIFT);
}

/* Lets go of the pages and bios of a request that is not in flight. May sleep. */
void vhost_blk_bio_release(struct vhost_blk_request *request)
{
	bool write = vhost_blk_is_write(request);
	struct vhost_blk_bio *part, *next;

	if (write)
		vhost_blk_bio_invalidate(request);
	for (part = request->bios; part; part = next) {
		struct bio *bio = &part->bio;
		unsigned short i;

		next = part->next;
		for (i = 0; i < bio->bi_vcnt; i++) {
			const struct bio_vec *bv = &bio->bi_io_vec[i];

			/* After a failure, too: some of it may have been read. */
			unpin_user_page_range_dirty_lock(bv->bv_page,
							 DIV_ROUND_UP(bv->bv_offset + bv->bv_len, PAGE_SIZE), !write);
		}
		bio_uninit(bio);
		if (part != &request->inline_bio)
			kfree(part);
	}
	request->bios = NULL;
}
