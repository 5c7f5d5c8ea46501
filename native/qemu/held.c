/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A request that the storage failed, under an error policy that stops the VM: the kernel has held it, and hands it back
 * unanswered. It goes where virtio-blk puts such a request, the retry queue, from where the stock code executes it again at
 * "cont", saves it in a migration, or drops it at a reset.
 *
 * It is not tried a second time before the VM stops: the policy is about the failure that was met, and an error that went
 * away by itself would never be told.
 *
 * By now the guest may have overwritten the request's place in the available ring, so it is found by its head. Descriptors
 * are guest memory, and may have changed since the kernel read them: they are checked as if for the first time.
 */
#include "vhost-blk.h"
#include <sys/ioctl.h>
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "standard-headers/linux/virtio_blk.h"
#include "standard-headers/linux/virtio_ring.h"
#include "system/dma.h"
#include "trace.h"

/* The mapped buffers of one request; those that the device reads come first. */
typedef struct Buffers {
    unsigned out_num;
    unsigned in_num;
    hwaddr addr[VIRTQUEUE_MAX_SIZE];
    struct iovec iov[VIRTQUEUE_MAX_SIZE];
} Buffers;

static DMADirection direction(const Buffers *buffers, unsigned i)
{
    return i < buffers->out_num ? DMA_DIRECTION_TO_DEVICE : DMA_DIRECTION_FROM_DEVICE;
}

static void unmap(VirtIODevice *vdev, const Buffers *buffers)
{
    for (unsigned i = 0; i < buffers->out_num + buffers->in_num; i++) {
        dma_memory_unmap(vdev->dma_as, buffers->iov[i].iov_base, buffers->iov[i].iov_len, direction(buffers, i), 0);
    }
}

/* Returns what is wrong, or NULL. */
static const char *map_buffer(VirtIODevice *vdev, Buffers *buffers, const struct vring_desc *desc)
{
    bool in = desc->flags & VRING_DESC_F_WRITE;
    hwaddr addr = desc->addr;
    hwaddr left = desc->len;

    if (!in && buffers->in_num) {
        return "a buffer to be read follows one to be written";
    }
    while (left) {
        unsigned i = buffers->out_num + buffers->in_num;
        hwaddr length = left;
        void *base;

        if (i == VIRTQUEUE_MAX_SIZE) {
            return "too many buffers";
        }
        base = dma_memory_map(vdev->dma_as, addr, &length, in ? DMA_DIRECTION_FROM_DEVICE : DMA_DIRECTION_TO_DEVICE,
                              MEMTXATTRS_UNSPECIFIED);
        if (!base) {
            return "a buffer is not in the guest's memory";
        }
        buffers->addr[i] = addr;
        buffers->iov[i] = (struct iovec) { .iov_base = base, .iov_len = length };
        *(in ? &buffers->in_num : &buffers->out_num) += 1;
        addr += length;
        left -= length;
    }
    return NULL;
}

/* Follows a chain through a table of @count descriptors. Returns what is wrong, or NULL. */
static const char *map_chain(VirtIODevice *vdev, Buffers *buffers, hwaddr table, unsigned count, unsigned first,
                             bool indirect)
{
    unsigned next = first;

    for (unsigned seen = 0; seen < count; seen++) {
        const char *wrong;
        struct vring_desc desc;

        if (next >= count) {
            return "a descriptor is beyond its table";
        }
        if (dma_memory_read(vdev->dma_as, table + next * sizeof(desc), &desc, sizeof(desc),
                            MEMTXATTRS_UNSPECIFIED) != MEMTX_OK) {
            return "a descriptor is not in the guest's memory";
        }
        /* Little endian, as legacy guests of these machines are too. */
        le64_to_cpus(&desc.addr);
        le32_to_cpus(&desc.len);
        le16_to_cpus(&desc.flags);
        le16_to_cpus(&desc.next);
        if (!(desc.flags & VRING_DESC_F_INDIRECT)) {
            wrong = map_buffer(vdev, buffers, &desc);
        } else if (indirect || !desc.len || desc.len % sizeof(desc)) {
            wrong = "an indirect table is no table";
        } else {
            wrong = map_chain(vdev, buffers, desc.addr, desc.len / sizeof(desc), 0, true);
        }
        if (wrong || !(desc.flags & VRING_DESC_F_NEXT)) {
            return wrong;
        }
        next = desc.next;
    }
    return "a chain has no end";
}

/* A request as virtio-blk has it, freed by g_free: its arrays are behind it in the same piece of memory. */
static VirtIOBlockReq *make_request(VirtIOBlock *s, VirtQueue *vq, unsigned head, const Buffers *buffers)
{
    unsigned count = buffers->out_num + buffers->in_num;
    VirtIOBlockReq *req = g_malloc0(sizeof(*req) + count * (sizeof(struct iovec) + sizeof(hwaddr)));
    struct iovec *sg = (struct iovec *)(req + 1);
    hwaddr *addr = (hwaddr *)(sg + count);

    memcpy(sg, buffers->iov, count * sizeof(*sg));
    memcpy(addr, buffers->addr, count * sizeof(*addr));
    req->dev = s;
    req->vq = vq;
    req->elem = (VirtQueueElement) {
        .index = head,
        .ndescs = 1,
        .out_num = buffers->out_num,
        .in_num = buffers->in_num,
        .out_addr = addr,
        .in_addr = addr + buffers->out_num,
        .out_sg = sg,
        .in_sg = sg + buffers->out_num,
    };
    return req;
}

static bool queue_for_retry(VHostBlk *v, unsigned index, unsigned head)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    VirtQueue *vq = virtio_get_queue(vdev, index);
    g_autofree Buffers *buffers = g_new0(Buffers, 1);
    const char *wrong = map_chain(vdev, buffers, virtio_queue_get_desc_addr(vdev, index),
                                  virtio_queue_get_num(vdev, index), head, false);
    VirtIOBlockReq *req;

    if (wrong) {
        unmap(vdev, buffers);
        virtio_error(vdev, "vhost-blk: failed request %u of queue %u: %s", head, index, wrong);
        return false;
    }
    req = make_request(s, vq, head, buffers);
    vblk_count_as_popped(vq);
    WITH_QEMU_LOCK_GUARD(&s->rq_lock) {
        req->next = s->rq;
        s->rq = req;
    }
    return true;
}

static void take_from_queue(VHostBlk *v, unsigned index)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    unsigned room = virtio_queue_get_num(VIRTIO_DEVICE(v), index);
    g_autofree struct vhost_blk_held *held = g_new0(struct vhost_blk_held, room);
    struct vhost_blk_held_list list = { .queue = index, .count = room, .entries = (uintptr_t)held };

    if (ioctl(v->fd, VHOST_BLK_GET_HELD, &list) < 0) {
        error_report("vhost-blk: the kernel does not name the failed requests of queue %u: %s", index,
                     strerror(errno));
        return;
    }
    for (unsigned i = 0; i < MIN(list.count, room); i++) {
        bool is_read = (held[i].type & ~VIRTIO_BLK_T_BARRIER) == VIRTIO_BLK_T_IN;

        if (queue_for_retry(v, index, held[i].head)) {
            trace_vhost_blk_held(v, index, held[i].head, held[i].error);
            blk_error_action(s->blk, BLOCK_ERROR_ACTION_STOP, is_read, held[i].error);
        }
    }
}

void vblk_take_held(VHostBlk *v)
{
    for (unsigned i = 0; i < v->hdev.nvqs; i++) {
        if (virtio_queue_get_desc_addr(VIRTIO_DEVICE(v), i)) {
            take_from_queue(v, i);
        }
    }
}
