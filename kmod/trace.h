/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: /sys/kernel/tracing/events/vhost_blk. A descriptor is told by the <n> of its folder in debugfs. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vhost_blk

#if !defined(VHOST_BLK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VHOST_BLK_TRACE_H

#include <linux/tracepoint.h>

#include "internal.h"

/* What the chain asks for, as it says it; length is not known yet. */
TRACE_EVENT(vhost_blk_start,
	TP_PROTO(struct vhost_blk_request *request, u64 sector),
	TP_ARGS(request, sector),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, queue)
		__field(unsigned int, head)
		__field(u32, type)
		__field(u64, sector)
	),
	TP_fast_assign(
		__entry->id = request->queue->blk->id;
		__entry->queue = request->queue->index;
		__entry->head = request->head;
		__entry->type = request->type;
		__entry->sector = sector;
	),
	TP_printk("id=%u queue=%u head=%u type=%u sector=%llu", __entry->id, __entry->queue, __entry->head,
		  __entry->type, __entry->sector)
);

/* The storage is done with it; it is answered or held next. */
TRACE_EVENT(vhost_blk_done,
	TP_PROTO(struct vhost_blk_request *request, u64 now),
	TP_ARGS(request, now),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, queue)
		__field(unsigned int, head)
		__field(u32, type)
		__field(u8, status)
		__field(int, error)
		__field(u64, transferred)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->id = request->queue->blk->id;
		__entry->queue = request->queue->index;
		__entry->head = request->head;
		__entry->type = request->type;
		__entry->status = request->status;
		__entry->error = request->error;
		__entry->transferred = request->transferred;
		__entry->ns = now - request->start_ns;
	),
	TP_printk("id=%u queue=%u head=%u type=%u status=%u error=%d transferred=%llu ns=%llu", __entry->id,
		  __entry->queue, __entry->head, __entry->type, __entry->status, __entry->error, __entry->transferred,
		  __entry->ns)
);

DECLARE_EVENT_CLASS(vhost_blk_request,
	TP_PROTO(struct vhost_blk_request *request),
	TP_ARGS(request),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, queue)
		__field(unsigned int, head)
		__field(u32, type)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->id = request->queue->blk->id;
		__entry->queue = request->queue->index;
		__entry->head = request->head;
		__entry->type = request->type;
		__entry->error = request->error;
	),
	TP_printk("id=%u queue=%u head=%u type=%u error=%d", __entry->id, __entry->queue, __entry->head, __entry->type,
		  __entry->error)
);

/* Passed on to where it may wait for storage. */
DEFINE_EVENT(vhost_blk_request, vhost_blk_punt,
	TP_PROTO(struct vhost_blk_request *request),
	TP_ARGS(request)
);

DEFINE_EVENT(vhost_blk_request, vhost_blk_hold,
	TP_PROTO(struct vhost_blk_request *request),
	TP_ARGS(request)
);

DECLARE_EVENT_CLASS(vhost_blk_queue,
	TP_PROTO(struct vhost_blk_queue *queue),
	TP_ARGS(queue),
	TP_STRUCT__entry(
		__field(unsigned int, id)
		__field(unsigned int, queue)
		__field(unsigned int, inflight)
		__field(unsigned int, held)
		__field(bool, paused)
	),
	TP_fast_assign(
		__entry->id = queue->blk->id;
		__entry->queue = queue->index;
		__entry->inflight = READ_ONCE(queue->inflight);
		__entry->held = READ_ONCE(queue->held);
		__entry->paused = READ_ONCE(queue->paused);
	),
	TP_printk("id=%u queue=%u inflight=%u held=%u paused=%d", __entry->id, __entry->queue, __entry->inflight,
		  __entry->held, __entry->paused)
);

/* An ioctl waits for what is in flight. */
DEFINE_EVENT(vhost_blk_queue, vhost_blk_drain,
	TP_PROTO(struct vhost_blk_queue *queue),
	TP_ARGS(queue)
);

/* VHOST_BLK_PAUSE */
DEFINE_EVENT(vhost_blk_queue, vhost_blk_pause,
	TP_PROTO(struct vhost_blk_queue *queue),
	TP_ARGS(queue)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
