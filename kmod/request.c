// SPDX-License-Identifier: GPL-2.0-only
/* From a descriptor chain to a request, and from its result to what the guest sees (virtio 1.3, 5.2.6). */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"
#include "trace.h"

/* The most ranges of one discard or write-zeroes; what is presented to guests (max_discard_seg) is far less. */
#define VHOST_BLK_MAX_RANGES 256

/*
 * Takes the status byte, the last of the writable ones, off the end of the chain. It may share its buffer with data:
 * the buffer is then shortened, since O_DIRECT looks at whole segments. Returns the number of buffers with data.
 */
static unsigned int vhost_blk_take_status(struct vhost_blk_request *request, struct iovec *iov, unsigned int in)
{
	request->status_address = NULL;
	while (in--) {
		if (!iov[in].iov_len)
			continue;
		iov[in].iov_len--;
		request->status_address = (u8 __user *)iov[in].iov_base + iov[in].iov_len;
		return in + !!iov[in].iov_len;
	}
	return 0;
}

static int vhost_blk_copy_segments(struct vhost_blk_request *request, const struct iovec *iov, unsigned int count,
				   size_t skip)
{
	unsigned int i, n = 0;

	request->segments = request->inline_segments;
	if (count > VHOST_BLK_INLINE_SEGMENTS) {
		request->segments = kvmalloc_array(count, sizeof(*iov), GFP_KERNEL);
		if (!request->segments)
			return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		size_t cut = min(skip, iov[i].iov_len);

		skip -= cut;
		if (iov[i].iov_len == cut)
			continue;
		request->segments[n].iov_base = iov[i].iov_base + cut;
		request->segments[n].iov_len = iov[i].iov_len - cut;
		n++;
	}
	request->segment_count = n;
	return 0;
}

/* Is the range within the disk? Free of overflow for any values of the guest. */
static bool vhost_blk_in_range(const struct vhost_blk_config *config, u64 sector, u64 bytes)
{
	u64 sectors = config->capacity >> SECTOR_SHIFT;

	return sector <= sectors && bytes >> SECTOR_SHIFT <= sectors - sector;
}

static bool vhost_blk_read_only(struct vhost_blk_queue *queue)
{
	return queue->config.flags & VHOST_BLK_CONFIG_READ_ONLY || vhost_has_feature(&queue->vq, VIRTIO_BLK_F_RO);
}

/* Must what the guest changes be on stable storage before it is told so? */
static bool vhost_blk_must_be_durable(struct vhost_blk_queue *queue)
{
	return !(queue->config.flags & VHOST_BLK_CONFIG_NO_FLUSH) &&
	       (queue->config.flags & VHOST_BLK_CONFIG_WRITETHROUGH ||
		!vhost_has_feature(&queue->vq, VIRTIO_BLK_F_FLUSH));
}

static void vhost_blk_start_transfer(struct vhost_blk_request *request, const struct iovec *iov, unsigned int count,
				     size_t skip, size_t length, u64 sector)
{
	struct vhost_blk_queue *queue = request->queue;

	/* Most drivers give the header a buffer of its own. */
	if (count && skip == iov->iov_len) {
		iov++;
		count--;
		skip = 0;
	}
	/* A used length has 32 bits, and counts the status byte too. */
	if (length % SECTOR_SIZE || length > U32_MAX - 1 || !vhost_blk_in_range(&queue->config, sector, length) ||
	    (vhost_blk_is_write(request) && vhost_blk_read_only(queue))) {
		vhost_blk_answer_here(request, VIRTIO_BLK_S_IOERR);
		return;
	}
	request->length = length;
	request->position = queue->config.offset + (sector << SECTOR_SHIFT);
	if (!length) {
		vhost_blk_answer_here(request, VIRTIO_BLK_S_OK);
		return;
	}
	if (vhost_blk_bio_transfer(request, iov, count, skip))
		return;
	if (vhost_blk_copy_segments(request, iov, count, skip))
		vhost_blk_answer_here(request, VIRTIO_BLK_S_IOERR);
	else
		vhost_blk_io_submit(request);
}

static void vhost_blk_start_get_id(struct vhost_blk_request *request, const struct iovec *iov, unsigned int in)
{
	struct vhost_blk_queue *queue = request->queue;
	size_t n = min_t(size_t, request->writable, VHOST_BLK_SERIAL_LEN);
	struct iov_iter iter;

	iov_iter_init(&iter, ITER_DEST, iov, in, request->writable);
	request->transferred = copy_to_iter(queue->config.serial, n, &iter);
	vhost_blk_answer_here(request, request->transferred == n ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
}

/* Reads and checks the ranges of a discard or write-zeroes; all of them before any is executed. */
static u8 vhost_blk_take_ranges(struct vhost_blk_request *request, unsigned int out, size_t length)
{
	struct vhost_blk_queue *queue = request->queue;
	bool discard = request->type == VIRTIO_BLK_T_DISCARD;
	struct iov_iter data;
	unsigned int i;

	if (!vhost_has_feature(&queue->vq, discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	if (vhost_blk_read_only(queue) || !length || length % sizeof(*request->ranges) ||
	    length / sizeof(*request->ranges) > VHOST_BLK_MAX_RANGES)
		return VIRTIO_BLK_S_IOERR;
	request->ranges = kmalloc(length, GFP_KERNEL);
	iov_iter_init(&data, ITER_SOURCE, queue->vq.iov, out, sizeof(struct virtio_blk_outhdr) + length);
	iov_iter_advance(&data, sizeof(struct virtio_blk_outhdr));
	if (!request->ranges || !copy_from_iter_full(request->ranges, length, &data))
		return VIRTIO_BLK_S_IOERR;
	request->range_count = length / sizeof(*request->ranges);
	for (i = 0; i < request->range_count; i++) {
		struct virtio_blk_discard_write_zeroes *range = &request->ranges[i];
		u32 flags = le32_to_cpu(range->flags);

		/* 5.2.6.2: reserved flags, and unmap on a discard, are unsupported. */
		if (flags & ~(discard ? 0 : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			return VIRTIO_BLK_S_UNSUPP;
		if (!vhost_blk_in_range(&queue->config, le64_to_cpu(range->sector),
					(u64)le32_to_cpu(range->num_sectors) << SECTOR_SHIFT))
			return VIRTIO_BLK_S_IOERR;
		if (queue->config.flags & VHOST_BLK_CONFIG_NO_UNMAP)
			range->flags = 0;
	}
	request->position = queue->config.offset;
	return VIRTIO_BLK_S_OK;
}

static bool vhost_blk_read_header(struct vhost_virtqueue *vq, unsigned int out, size_t readable,
				  struct virtio_blk_outhdr *header)
{
	const struct virtio_blk_outhdr __user *from = vq->iov[0].iov_base;
	struct iov_iter iter;

	if (!out || vq->iov[0].iov_len < sizeof(*header)) {
		iov_iter_init(&iter, ITER_SOURCE, vq->iov, out, readable);
		return copy_from_iter_full(header, sizeof(*header), &iter);
	}
	if (!user_read_access_begin(from, sizeof(*from)))
		return false;
	unsafe_get_user(header->type, &from->type, fault);
	unsafe_get_user(header->sector, &from->sector, fault);
	user_read_access_end();
	return true;
fault:
	user_read_access_end();
	return false;
}

/*
 * Starts the chain that vhost_get_vq_desc() has put into vq->iov: out segments to read, then in segments to write.
 * Called by the queue's worker under vq->mutex. The request is done, or under way, when this returns; it does not
 * wait for storage.
 */
void vhost_blk_request_start(struct vhost_blk_request *request, unsigned int out, unsigned int in,
			     unsigned int log_count)
{
	struct vhost_blk_queue *queue = request->queue;
	struct vhost_virtqueue *vq = &queue->vq;
	size_t readable = iov_length(vq->iov, out);
	size_t writable = iov_length(vq->iov + out, in);
	struct virtio_blk_outhdr header;
	bool write;
	u64 sector;
	u8 status;

	request->type = U32_MAX;
	request->bounce = false;
	request->punts = 0;
	request->length = 0;
	request->transferred = 0;
	request->writable = 0;
	request->durable = false;
	if (log_count) {
		/* A write without its log entry would be lost by a migration: there is no going on without. */
		request->log = kvmalloc_array(log_count, sizeof(*request->log), GFP_KERNEL | __GFP_NOFAIL);
		memcpy(request->log, vq->log, log_count * sizeof(*request->log));
		request->log_count = log_count;
	}

	in = vhost_blk_take_status(request, vq->iov + out, in);
	if (!request->status_address) {
		/* Nothing can be answered: hand the chain back unwritten, so that the ring goes on. */
		vhost_blk_signal_error(vq);
		vhost_blk_answer_here(request, VIRTIO_BLK_S_IOERR);
		return;
	}
	request->writable = writable - 1;

	if (!vhost_blk_read_header(vq, out, readable, &header)) {
		vhost_blk_answer_here(request, VIRTIO_BLK_S_IOERR);
		return;
	}
	request->type = __virtio32_to_cpu(vq->is_le, header.type);
	sector = __virtio64_to_cpu(vq->is_le, header.sector);
	trace_vhost_blk_start(request, sector);

	switch (request->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_OUT:
		write = vhost_blk_is_write(request);
		if (write)
			request->durable = vhost_blk_must_be_durable(queue);
		vhost_blk_start_transfer(request, write ? vq->iov : vq->iov + out, write ? out : in,
					 write ? sizeof(header) : 0,
					 write ? readable - sizeof(header) : request->writable, sector);
		return;
	case VIRTIO_BLK_T_FLUSH:
		if (queue->config.flags & VHOST_BLK_CONFIG_NO_FLUSH)
			vhost_blk_answer_here(request, VIRTIO_BLK_S_OK);
		else
			vhost_blk_io_flush(request);
		return;
	case VIRTIO_BLK_T_GET_ID:
		vhost_blk_start_get_id(request, vq->iov + out, in);
		return;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		request->durable = vhost_blk_must_be_durable(queue);
		status = vhost_blk_take_ranges(request, out, readable - sizeof(header));
		if (status != VIRTIO_BLK_S_OK || (request->type == VIRTIO_BLK_T_DISCARD &&
						  queue->config.flags & VHOST_BLK_CONFIG_NO_UNMAP))
			vhost_blk_answer_here(request, status);
		else
			vhost_blk_io_punt(request, 0);
		return;
	default:
		vhost_blk_answer_here(request, VIRTIO_BLK_S_UNSUPP);
	}
}

/*
 * Marks in the dirty log, if it is on, the whole of what the chain let us write: a failed read may have written any
 * part of it.
 */
void vhost_blk_request_log(struct vhost_blk_request *request)
{
	u64 length = 0;
	unsigned int i;

	for (i = 0; i < request->log_count; i++)
		length += request->log[i].len;
	/* vhost_log_write() takes a length beyond its entries for a bug of ours, and zero for such a length. */
	if (length)
		vhost_log_write(&request->queue->vq, request->log, request->log_count, length, NULL, 0);
}

/*
 * Gives the guest its answer, under vq->mutex and in the guest's address space. Returns the used length: the bytes
 * written from the start of the writable buffers without a gap (virtio 1.3, 2.7.8.2: the device must have written at
 * least as many). The status byte comes last, so it counts only if all before it is written: a failed read reports
 * what it has read.
 */
u32 vhost_blk_request_finish(struct vhost_blk_request *request)
{
	bool writes_data = request->type == VIRTIO_BLK_T_IN || request->type == VIRTIO_BLK_T_GET_ID;
	size_t written = writes_data ? request->transferred : 0;

	if (request->status_address) {
		if (put_user(request->status, request->status_address))
			vhost_blk_signal_error(&request->queue->vq);
		else if (written == request->writable)
			written++;
	}
	vhost_blk_request_log(request);
	return written;
}

/* Executes a request that has failed once more, from the start. In the owner's ioctl, under vq->mutex. */
void vhost_blk_request_retry(struct vhost_blk_request *request)
{
	request->transferred = 0;
	request->error = 0;
	vhost_blk_io_punt(request, 0);
}

/* Frees what the request holds; it may be used again. */
void vhost_blk_request_release(struct vhost_blk_request *request)
{
	if (request->bios)
		vhost_blk_bio_release(request);
	if (request->segments) {
		if (request->segments != request->inline_segments)
			kvfree(request->segments);
		request->segments = NULL;
	}
	/* Few have any: the call alone would cost each request a hundredth of its path. */
	if (request->ranges) {
		request->range_count = 0;
		kfree(request->ranges);
		request->ranges = NULL;
	}
	if (request->log) {
		kvfree(request->log);
		request->log = NULL;
		request->log_count = 0;
	}
}
