// SPDX-License-Identifier: GPL-2.0-only
/*
 * The next chain of a queue, read at less than half the cost of vhost_get_vq_desc(). Only what well-behaved guests do
 * is understood here; anything else is left, untouched, to that function, which also tells the VMM of broken rings.
 */
#include <linux/uaccess.h>

#include "internal.h"

static __always_inline bool vhost_blk_read_desc(const struct vring_desc __user *from, struct vring_desc *desc)
{
	if (!user_read_access_begin(from, sizeof(*from)))
		return false;
	unsafe_get_user(desc->addr, &from->addr, fault);
	unsafe_get_user(desc->len, &from->len, fault);
	unsafe_get_user(desc->flags, &from->flags, fault);
	unsafe_get_user(desc->next, &from->next, fault);
	user_read_access_end();
	return true;
fault:
	user_read_access_end();
	return false;
}

/* To one piece of the owner's memory, in a region that allows the access. The last region found is tried first. */
static __always_inline bool vhost_blk_translate(struct vhost_virtqueue *vq, const struct vring_desc *desc, u32 access,
						const struct vhost_iotlb_map **map, struct iovec *iov)
{
	u64 address = __virtio64_to_cpu(true, desc->addr);
	u32 length = __virtio32_to_cpu(true, desc->len);
	u64 last = address + length - 1;

	if (!length || last < address)
		return false;
	if (!*map || address < (*map)->start || last > (*map)->last) {
		*map = vhost_iotlb_itree_first(vq->umem, address, last);
		if (!*map || address < (*map)->start || last > (*map)->last)
			return false;
	}
	if (!((*map)->perm & access))
		return false;
	iov->iov_base = (void __user *)(unsigned long)((*map)->addr + address - (*map)->start);
	iov->iov_len = length;
	return true;
}

/* Follows a chain through a table of that many descriptors, from index on, filling vq->iov. */
static bool vhost_blk_follow(struct vhost_virtqueue *vq, const struct vring_desc __user *table, unsigned int size,
			     unsigned int index, const struct vhost_iotlb_map **map, unsigned int *out,
			     unsigned int *in)
{
	struct vring_desc desc;
	u16 flags;

	*out = 0;
	*in = 0;
	do {
		bool write;

		/* A chain that is longer than its table goes round in circles. */
		if (index >= size || *out + *in >= min_t(unsigned int, size, ARRAY_SIZE(vq->iov)) ||
		    !vhost_blk_read_desc(table + index, &desc))
			return false;
		flags = __virtio16_to_cpu(true, desc.flags);
		write = flags & VRING_DESC_F_WRITE;
		/* What the device reads comes before what it writes. */
		if (flags & VRING_DESC_F_INDIRECT || (!write && *in) ||
		    !vhost_blk_translate(vq, &desc, write ? VHOST_ACCESS_WO : VHOST_ACCESS_RO, map,
					 &vq->iov[*out + *in]))
			return false;
		if (write)
			++*in;
		else
			++*out;
		index = __virtio16_to_cpu(true, desc.next);
	} while (flags & VRING_DESC_F_NEXT);
	return true;
}

/*
 * Puts the next chain into vq->iov: out segments to read, then in segments to write. Under vq->mutex. Returns its
 * head; vq->num if there is none; -EAGAIN if vhost_get_vq_desc() has to look.
 */
int vhost_blk_get_chain(struct vhost_virtqueue *vq, unsigned int *out, unsigned int *in)
{
	const struct vhost_iotlb_map *map = NULL;
	struct vring_desc desc;
	struct iovec table;
	__virtio16 word;
	u16 head, flags;
	u32 length;

	/*
	 * The core keeps the log of pages; an IOMMU's translations are not ours to follow; big-endian rings are rare,
	 * and a test at each field costs.
	 */
	if (vhost_has_feature(vq, VHOST_F_LOG_ALL) || vq->iotlb || !vq->is_le)
		return -EAGAIN;
	if (vq->avail_idx == vq->last_avail_idx) {
		u16 index;

		if (get_user(word, &vq->avail->idx))
			return -EAGAIN;
		index = __virtio16_to_cpu(true, word);
		if ((u16)(index - vq->last_avail_idx) > vq->num)
			return -EAGAIN;
		if (index == vq->last_avail_idx)
			return vq->num;
		vq->avail_idx = index;
		/* The entries of the ring after the index that covers them. */
		smp_rmb();
	}
	if (get_user(word, &vq->avail->ring[vq->last_avail_idx & (vq->num - 1)]))
		return -EAGAIN;
	head = __virtio16_to_cpu(true, word);
	if (head >= vq->num || !vhost_blk_read_desc(vq->desc + head, &desc))
		return -EAGAIN;
	flags = __virtio16_to_cpu(true, desc.flags);
	if (flags & VRING_DESC_F_INDIRECT) {
		length = __virtio32_to_cpu(true, desc.len);
		if (flags & VRING_DESC_F_NEXT || length % sizeof(desc) || length / sizeof(desc) > U16_MAX + 1 ||
		    !vhost_blk_translate(vq, &desc, VHOST_ACCESS_RO, &map, &table) ||
		    !vhost_blk_follow(vq, table.iov_base, length / sizeof(desc), 0, &map, out, in))
			return -EAGAIN;
	} else if (!vhost_blk_follow(vq, vq->desc, vq->num, head, &map, out, in)) {
		return -EAGAIN;
	}
	vq->last_avail_idx++;
	return head;
}
