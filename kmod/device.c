// SPDX-License-Identifier: GPL-2.0-only
/* /dev/vhost-blk: the descriptor, its ioctls, and what can be seen of it from outside. */
#include <linux/compat.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/slab.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

/* What SET_CONFIG knows. */
#define VHOST_BLK_CONFIG_FLAGS                                                                                      \
	(VHOST_BLK_CONFIG_READ_ONLY | VHOST_BLK_CONFIG_WRITETHROUGH | VHOST_BLK_CONFIG_NO_FLUSH |                    \
	 VHOST_BLK_CONFIG_NO_UNMAP | VHOST_BLK_CONFIG_HOLD_READ | VHOST_BLK_CONFIG_HOLD_WRITE |                      \
	 VHOST_BLK_CONFIG_HOLD_ENOSPC)

/* After so many requests or bytes a worker lets its other queues have a turn. */
#define VHOST_BLK_WEIGHT 256
#define VHOST_BLK_BYTE_WEIGHT SZ_16M

/* Beside the ring's own: what describes the disk, which the VMM presents, and what we execute. */
static const u64 vhost_blk_features =
	VHOST_FEATURES |
	BIT_ULL(VIRTIO_F_RING_RESET) |
	BIT_ULL(VIRTIO_BLK_F_SIZE_MAX) |
	BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |
	BIT_ULL(VIRTIO_BLK_F_GEOMETRY) |
	BIT_ULL(VIRTIO_BLK_F_RO) |
	BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |
	BIT_ULL(VIRTIO_BLK_F_FLUSH) |
	BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) |
	BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE) |
	BIT_ULL(VIRTIO_BLK_F_MQ) |
	BIT_ULL(VIRTIO_BLK_F_DISCARD) |
	BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES);

static void vhost_blk_free_queues(struct vhost_virtqueue **vqs, struct vhost_blk_queue **queues, unsigned int count)
{
	while (queues && count--)
		kvfree(queues[count]);
	kfree(queues);
	kfree(vqs);
}

/* Makes count queues and a fresh vhost_dev over them. Nobody may own the device. */
static int vhost_blk_init_queues(struct vhost_blk *blk, unsigned int count)
{
	struct vhost_virtqueue **vqs = kcalloc(count, sizeof(*vqs), GFP_KERNEL_ACCOUNT);
	struct vhost_blk_queue **queues = kcalloc(count, sizeof(*queues), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!vqs || !queues)
		goto err;
	for (i = 0; i < count; i++) {
		queues[i] = vhost_blk_queue_alloc(blk, i);
		if (!queues[i])
			goto err;
		vqs[i] = &queues[i]->vq;
	}

	/* Not under queues_lock: it waits for readers, of whom nobody knows what locks they take. */
	vhost_blk_debugfs_remove(blk);
	down_write(&blk->queues_lock);
	if (blk->queues)
		vhost_dev_cleanup(&blk->dev);
	swap(blk->vqs, vqs);
	swap(blk->queues, queues);
	swap(blk->queue_count, count);
	vhost_dev_init(&blk->dev, blk->vqs, blk->queue_count, UIO_MAXIOV, VHOST_BLK_WEIGHT, VHOST_BLK_BYTE_WEIGHT,
		       true, NULL);
	up_write(&blk->queues_lock);
	vhost_blk_free_queues(vqs, queues, count);
	vhost_blk_debugfs_add(blk);
	return 0;
err:
	vhost_blk_free_queues(vqs, queues, count);
	return -ENOMEM;
}

/* Given to descriptors in turn. */
static atomic_t last_id = ATOMIC_INIT(0);

static int vhost_blk_open(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = kzalloc(sizeof(*blk), GFP_KERNEL_ACCOUNT);
	int r = -ENOMEM;

	if (!blk)
		return -ENOMEM;
	mutex_init(&blk->mutex);
	init_rwsem(&blk->queues_lock);
	spin_lock_init(&blk->event_lock);
	blk->id = atomic_inc_return(&last_id);
	/* One for each descriptor: a disk that hangs must not use up the workers of others. */
	blk->workqueue = alloc_workqueue("vhost-blk-%d", WQ_UNBOUND, 0, current->pid);
	if (!blk->workqueue)
		goto err;
	r = vhost_blk_init_queues(blk, 1);
	if (r)
		goto err;
	file->private_data = blk;
	return 0;
err:
	if (blk->workqueue)
		destroy_workqueue(blk->workqueue);
	kfree(blk);
	return r;
}

static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;
	unsigned int i;

	WRITE_ONCE(blk->dying, true);
	vhost_blk_debugfs_remove(blk);
	for (i = 0; i < blk->queue_count; i++)
		vhost_blk_queue_kill(blk->queues[i]);
	/*
	 * Nothing is in flight. Completions may still be telling a worker so: see struct vhost_blk_queue. Expedited, as
	 * synchronize_net() is: a VMM that switches a disk closes it in its main loop, and its guest waits.
	 */
	synchronize_rcu_expedited();
	vhost_dev_stop(&blk->dev);
	vhost_dev_flush(&blk->dev);
	vhost_dev_cleanup(&blk->dev);
	destroy_workqueue(blk->workqueue);
	vhost_blk_put_events(blk);
	vhost_blk_free_queues(blk->vqs, blk->queues, blk->queue_count);
	put_pid(blk->owner);
	kfree(blk);
	return 0;
}

/* With queues_lock or mutex held. NULL: there is no such queue. */
struct vhost_blk_queue *vhost_blk_get_queue(struct vhost_blk *blk, u32 index)
{
	if (index >= blk->queue_count)
		return NULL;
	return blk->queues[array_index_nospec(index, blk->queue_count)];
}

static long vhost_blk_get_info(void __user *argp)
{
	const struct vhost_blk_info info = {
		.abi_version = VHOST_BLK_ABI_VERSION,
		.max_queues = VHOST_BLK_MAX_QUEUES,
	};

	return copy_to_user(argp, &info, sizeof(info)) ? -EFAULT : 0;
}

static long vhost_blk_set_queues(struct vhost_blk *blk, void __user *argp)
{
	u32 count;
	long r;

	if (get_user(count, (u32 __user *)argp))
		return -EFAULT;
	if (!count || count > VHOST_BLK_MAX_QUEUES)
		return -EINVAL;
	/* vhost_dev.mutex is initialized anew: vhost_blk.mutex keeps all others off it. */
	mutex_lock(&blk->mutex);
	r = vhost_dev_has_owner(&blk->dev) ? -EBUSY : vhost_blk_init_queues(blk, count);
	mutex_unlock(&blk->mutex);
	return r;
}

static bool vhost_blk_config_ok(const struct vhost_blk_config *config)
{
	return !(config->flags & ~VHOST_BLK_CONFIG_FLAGS) && !config->reserved0 &&
	       !memchr_inv(config->reserved, 0, sizeof(config->reserved)) && config->capacity % SECTOR_SIZE == 0 &&
	       config->offset % SECTOR_SIZE == 0 && config->offset <= LLONG_MAX &&
	       config->capacity <= LLONG_MAX - config->offset;
}

static long vhost_blk_set_config(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_config config;
	unsigned int i;
	int r;

	if (copy_from_user(&config, argp, sizeof(config)))
		return -EFAULT;
	if (!vhost_blk_config_ok(&config))
		return -EINVAL;
	for (i = 0; i < blk->queue_count; i++) {
		struct vhost_blk_backend *backend = &blk->queues[i]->backend;

		if (!backend->file)
			continue;
		/* It may have grown since it was bound. */
		backend->size = i_size_read(backend->file->f_mapping->host);
		r = vhost_blk_backend_check(backend, &config);
		if (r)
			return r;
	}
	blk->config = config;
	for (i = 0; i < blk->queue_count; i++) {
		mutex_lock(&blk->queues[i]->vq.mutex);
		blk->queues[i]->config = config;
		mutex_unlock(&blk->queues[i]->vq.mutex);
	}
	return 0;
}

static long vhost_blk_set_backend(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_backend backend;
	struct vhost_blk_queue *queue;
	struct vhost_vring_file arg;
	int r;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	queue = vhost_blk_get_queue(blk, arg.index);
	if (!queue)
		return -ENOBUFS;
	if (arg.fd == -1)
		return vhost_blk_queue_stop(queue);

	r = vhost_blk_backend_open(&backend, arg.fd);
	if (r)
		return r;
	r = vhost_blk_backend_check(&backend, &blk->config);
	if (!r && queue->vq.private_data)
		r = vhost_blk_queue_replace(queue, &backend);
	else if (!r)
		r = vhost_blk_queue_start(queue, &backend);
	if (r)
		vhost_blk_backend_put(&backend);
	return r;
}

static long vhost_blk_set_features(struct vhost_blk *blk, void __user *argp)
{
	u64 features, old = blk->queues[0]->vq.acked_features;
	bool toggles_log;
	unsigned int i;
	int r;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~vhost_blk_features)
		return -EOPNOTSUPP;
	if (features & BIT_ULL(VHOST_F_LOG_ALL) && !vhost_log_access_ok(&blk->dev))
		return -EFAULT;
	/* Requests fetched without a log would write pages that nobody marks. */
	toggles_log = (old ^ features) & BIT_ULL(VHOST_F_LOG_ALL);
	if (toggles_log) {
		r = vhost_blk_drain_all(blk);
		if (r)
			return r;
	}
	for (i = 0; i < blk->queue_count; i++) {
		mutex_lock(&blk->queues[i]->vq.mutex);
		blk->queues[i]->vq.acked_features = features;
		mutex_unlock(&blk->queues[i]->vq.mutex);
	}
	if (toggles_log)
		vhost_blk_resume_all(blk);
	return 0;
}

/* Requests in flight hold addresses of the old table. */
static long vhost_blk_set_mem_table(struct vhost_blk *blk, unsigned int ioctl, void __user *argp)
{
	long r = vhost_blk_drain_all(blk);

	if (r)
		return r;
	r = vhost_dev_ioctl(&blk->dev, ioctl, argp);
	vhost_blk_resume_all(blk);
	return r;
}

static long vhost_blk_reset_owner(struct vhost_blk *blk)
{
	struct vhost_iotlb *umem = vhost_dev_reset_owner_prepare();
	unsigned int i;
	int r = 0;

	if (!umem)
		return -ENOMEM;
	for (i = 0; i < blk->queue_count && !r; i++)
		r = vhost_blk_queue_stop(blk->queues[i]);
	if (r) {
		vhost_iotlb_free(umem);
		return r;
	}
	for (i = 0; i < blk->queue_count; i++) {
		mutex_lock(&blk->queues[i]->vq.mutex);
		vhost_blk_free_requests(blk->queues[i]);
		mutex_unlock(&blk->queues[i]->vq.mutex);
	}
	/* As in release: the workers are freed. */
	synchronize_rcu();
	vhost_dev_stop(&blk->dev);
	vhost_dev_flush(&blk->dev);
	vhost_dev_reset_owner(&blk->dev, umem);
	put_pid(blk->owner);
	blk->owner = NULL;
	return 0;
}

/*
 * With vhost_blk.mutex and vhost_dev.mutex held. Only for the owner, or with none: a drain answers in the caller's
 * memory.
 */
static long vhost_blk_locked_ioctl(struct vhost_blk *blk, unsigned int ioctl, void __user *argp)
{
	bool owned = vhost_dev_has_owner(&blk->dev);
	long r;

	if (owned) {
		r = vhost_dev_check_owner(&blk->dev);
		if (r)
			return r;
	}
	switch (ioctl) {
	case VHOST_BLK_SET_CONFIG:
		return vhost_blk_set_config(blk, argp);
	case VHOST_SET_OWNER:
		r = vhost_dev_ioctl(&blk->dev, ioctl, argp);
		if (!r)
			blk->owner = get_task_pid(current, PIDTYPE_TGID);
		return r;
	case VHOST_SET_FEATURES:
		return vhost_blk_set_features(blk, argp);
	case VHOST_BLK_SET_BACKEND:
		return owned ? vhost_blk_set_backend(blk, argp) : -EPERM;
	case VHOST_BLK_RELEASE_HELD:
		return owned ? vhost_blk_release_held(blk, argp) : -EPERM;
	case VHOST_SET_MEM_TABLE:
		return owned ? vhost_blk_set_mem_table(blk, ioctl, argp) : -EPERM;
	case VHOST_RESET_OWNER:
		return owned ? vhost_blk_reset_owner(blk) : -EPERM;
#ifdef HAVE_vhost_worker_ioctl
	case VHOST_NEW_WORKER:
	case VHOST_FREE_WORKER:
	case VHOST_ATTACH_VRING_WORKER:
	case VHOST_GET_VRING_WORKER:
		return vhost_worker_ioctl(&blk->dev, ioctl, argp);
#endif
	default:
		r = vhost_dev_ioctl(&blk->dev, ioctl, argp);
		return r == -ENOIOCTLCMD ? vhost_vring_ioctl(&blk->dev, ioctl, argp) : r;
	}
}

static long vhost_blk_ioctl(struct file *file, unsigned int ioctl, unsigned long arg)
{
	struct vhost_blk *blk = file->private_data;
	void __user *argp = (void __user *)arg;
	long r;

	/* These go through while another thread's ioctl drains a slow disk. */
	switch (ioctl) {
	case VHOST_BLK_GET_INFO:
		return vhost_blk_get_info(argp);
	case VHOST_GET_FEATURES:
		return copy_to_user(argp, &vhost_blk_features, sizeof(vhost_blk_features)) ? -EFAULT : 0;
	case VHOST_BLK_GET_STATS:
		return vhost_blk_get_stats(blk, argp);
	case VHOST_BLK_GET_LATENCY:
		return vhost_blk_get_latency(blk, argp);
	case VHOST_BLK_GET_HELD:
		return vhost_blk_get_held(blk, argp);
	case VHOST_BLK_PAUSE:
		return vhost_blk_pause(blk, argp);
	case VHOST_BLK_SET_EVENT:
		return vhost_blk_set_event(blk, argp);
	case VHOST_BLK_SET_QUEUES:
		return vhost_blk_set_queues(blk, argp);
	}

	if (mutex_lock_killable(&blk->mutex))
		return -EINTR;
	mutex_lock(&blk->dev.mutex);
	r = vhost_blk_locked_ioctl(blk, ioctl, argp);
	mutex_unlock(&blk->dev.mutex);
	mutex_unlock(&blk->mutex);
	return r;
}

static const struct file_operations vhost_blk_fops = {
	.owner = THIS_MODULE,
	.open = vhost_blk_open,
	.release = vhost_blk_release,
	.unlocked_ioctl = vhost_blk_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.show_fdinfo = vhost_blk_show_fdinfo,
	.llseek = noop_llseek,
};

static struct miscdevice vhost_blk_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vhost-blk",
	.fops = &vhost_blk_fops,
	.mode = 0600,
};

static int __init vhost_blk_init(void)
{
	int r;

	vhost_blk_io_setup();
	vhost_blk_debugfs_init();
	r = misc_register(&vhost_blk_misc);
	if (r)
		vhost_blk_debugfs_exit();
	return r;
}

static void __exit vhost_blk_exit(void)
{
	misc_deregister(&vhost_blk_misc);
	vhost_blk_debugfs_exit();
}

module_init(vhost_blk_init);
module_exit(vhost_blk_exit);

MODULE_DESCRIPTION("virtio-blk served by the host kernel");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
