// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Guest addresses of one queue's things. */
#define QUEUE_SIZE (64 * KIB)
#define RING_AREA(queue) (GUEST_BASE + 1 * MIB + (queue) * QUEUE_SIZE)
#define SLOT_AREA(queue) (GUEST_BASE + 2 * MIB + (queue) * QUEUE_SIZE)
/* Our own address space between the regions. */
#define GAP (8 * MIB)

void fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	fflush(stdout);
	_exit(1);
}

void *guest(struct vm *vm, uint64_t address)
{
	CHECK(address >= GUEST_BASE && address < GUEST_END, "the test's own fault: no guest memory at %#llx",
	      (unsigned long long)address);
	return vm->memory + (address - GUEST_BASE) + (address >= BORDER ? GAP : 0);
}

static size_t until_border(uint64_t address, size_t length)
{
	return address < BORDER && address + length > BORDER ? BORDER - address : length;
}

void guest_write(struct vm *vm, uint64_t address, const void *data, size_t length)
{
	size_t first = until_border(address, length);

	memcpy(guest(vm, address), data, first);
	if (first < length)
		memcpy(guest(vm, BORDER), (const uint8_t *)data + first, length - first);
}

void guest_read(struct vm *vm, uint64_t address, void *data, size_t length)
{
	size_t first = until_border(address, length);

	memcpy(data, guest(vm, address), first);
	if (first < length)
		memcpy((uint8_t *)data + first, guest(vm, BORDER), length - first);
}

int vm_ioctl(struct vm *vm, unsigned long request, void *arg)
{
	return ioctl(vm->fd, request, arg) < 0 ? errno : 0;
}

void must_ioctl(struct vm *vm, unsigned long request, void *arg)
{
	int error = vm_ioctl(vm, request, arg);

	CHECK(!error, "ioctl %#lx: %s", request, strerror(error));
}

void vm_set_memory(struct vm *vm)
{
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region regions[2];
	} table = { .memory.nregions = 2 };

	for (int i = 0; i < 2; i++)
		table.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = GUEST_BASE + i * REGION_SIZE,
			.memory_size = REGION_SIZE,
			.userspace_addr = (uintptr_t)guest(vm, GUEST_BASE + i * REGION_SIZE),
		};
	must_ioctl(vm, VHOST_SET_MEM_TABLE, &table);
}

void vm_set_features(struct vm *vm, uint64_t features)
{
	must_ioctl(vm, VHOST_SET_FEATURES, &features);
	vm->features = features;
}

static void set_ring_address(struct vm *vm, unsigned int queue)
{
	struct ring *ring = &vm->ring[queue];
	struct vhost_vring_addr address = {
		.index = queue,
		.flags = vm->log ? 1 << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = (uintptr_t)ring->desc,
		.avail_user_addr = (uintptr_t)ring->avail,
		.used_user_addr = (uintptr_t)ring->used,
		.log_guest_addr = ring->address + ((uintptr_t)ring->used - (uintptr_t)ring->desc),
	};

	must_ioctl(vm, VHOST_SET_VRING_ADDR, &address);
}

void ring_reset(struct vm *vm, unsigned int queue)
{
	struct ring *ring = &vm->ring[queue];
	struct vhost_vring_state state = { .index = queue, .num = RING_NUM };

	ring->address = RING_AREA(queue);
	ring->desc = guest(vm, ring->address);
	ring->avail = guest(vm, ring->address + 8 * KIB);
	ring->used = guest(vm, ring->address + 16 * KIB);
	ring->next_desc = 0;
	ring->used_seen = 0;
	memset(ring->desc, 0, QUEUE_SIZE);
	must_ioctl(vm, VHOST_SET_VRING_NUM, &state);
	state.num = 0;
	must_ioctl(vm, VHOST_SET_VRING_BASE, &state);
	set_ring_address(vm, queue);
}

static void ring_init(struct vm *vm, unsigned int queue)
{
	struct ring *ring = &vm->ring[queue];
	struct vhost_vring_file file = { .index = queue };

	ring_reset(vm, queue);
	ring->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ring->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	file.fd = ring->kick;
	must_ioctl(vm, VHOST_SET_VRING_KICK, &file);
	file.fd = ring->call;
	must_ioctl(vm, VHOST_SET_VRING_CALL, &file);
}

struct vm *vm_open(unsigned int queues, uint64_t features)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	uint32_t count = queues;

	vm->fd = open("/dev/vhost-blk", O_RDWR | O_CLOEXEC);
	CHECK(vm->fd >= 0, "/dev/vhost-blk: %s", strerror(errno));
	vm->queues = queues;
	vm->memory = mmap(NULL, 2 * REGION_SIZE + GAP, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(vm->memory != MAP_FAILED, "no memory for a guest");
	CHECK(!mprotect(vm->memory + REGION_SIZE, GAP, PROT_NONE), "mprotect: %s", strerror(errno));
	if (queues > 1)
		must_ioctl(vm, VHOST_BLK_SET_QUEUES, &count);
	must_ioctl(vm, VHOST_SET_OWNER, NULL);
	vm_set_features(vm, features);
	vm_set_memory(vm);
	for (unsigned int i = 0; i < queues; i++)
		ring_init(vm, i);
	return vm;
}

void vm_close(struct vm *vm)
{
	close(vm->fd);
	for (unsigned int i = 0; i < vm->queues; i++) {
		close(vm->ring[i].kick);
		close(vm->ring[i].call);
	}
	munmap(vm->memory, 2 * REGION_SIZE + GAP);
	free(vm->log);
	free(vm);
}

int vm_configure(struct vm *vm, uint64_t capacity, uint64_t offset, uint32_t flags)
{
	struct vhost_blk_config config = {
		.flags = flags, .capacity = capacity, .offset = offset, .serial = "serial \\ 0123456\x01",
	};

	return vm_ioctl(vm, VHOST_BLK_SET_CONFIG, &config);
}

int vm_backend(struct vm *vm, unsigned int queue, int fd)
{
	struct vhost_vring_file file = { .index = queue, .fd = fd };

	return vm_ioctl(vm, VHOST_BLK_SET_BACKEND, &file);
}

struct vhost_blk_stats vm_stats(struct vm *vm, unsigned int queue)
{
	struct vhost_blk_stats stats = { .queue = queue };

	must_ioctl(vm, VHOST_BLK_GET_STATS, &stats);
	return stats;
}

int vm_event(struct vm *vm, uint32_t event)
{
	struct vhost_blk_event arg = { .event = event, .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };

	must_ioctl(vm, VHOST_BLK_SET_EVENT, &arg);
	return arg.fd;
}

bool event_came(int event, int timeout_ms)
{
	struct pollfd poll_event = { .fd = event, .events = POLLIN };
	uint64_t count;

	return poll(&poll_event, 1, timeout_ms) == 1 && read(event, &count, sizeof(count)) == sizeof(count);
}

int vm_pause(struct vm *vm, uint32_t queue, uint32_t paused)
{
	struct vhost_blk_pause arg = { .queue = queue, .paused = paused };

	return vm_ioctl(vm, VHOST_BLK_PAUSE, &arg);
}

void await_inflight(struct vm *vm, unsigned int queue, unsigned int count)
{
	for (long start = now_ms(); vm_stats(vm, queue).inflight < count; usleep(1000))
		CHECK(now_ms() - start < SOON_MS, "%u requests in flight instead of %u", vm_stats(vm, queue).inflight, count);
}

void await_held(struct vm *vm, unsigned int queue, unsigned int count)
{
	for (long start = now_ms(); vm_stats(vm, queue).held < count; usleep(1000))
		CHECK(now_ms() - start < SOON_MS, "%u requests held instead of %u", vm_stats(vm, queue).held, count);
}

unsigned int vm_held(struct vm *vm, unsigned int queue, struct vhost_blk_held *entries, unsigned int room)
{
	struct vhost_blk_held_list list = { .queue = queue, .count = room, .entries = (uintptr_t)entries };

	must_ioctl(vm, VHOST_BLK_GET_HELD, &list);
	return list.count;
}

unsigned int vm_base(struct vm *vm, unsigned int queue)
{
	struct vhost_vring_state state = { .index = queue };

	must_ioctl(vm, VHOST_GET_VRING_BASE, &state);
	return state.num;
}

void vm_log_start(struct vm *vm)
{
	uint64_t base;

	vm->log = calloc(1, GUEST_END / PAGE / 8 + 8);
	base = (uintptr_t)vm->log;
	must_ioctl(vm, VHOST_SET_LOG_BASE, &base);
	vm_set_features(vm, vm->features | 1ULL << VHOST_F_LOG_ALL);
	for (unsigned int i = 0; i < vm->queues; i++)
		set_ring_address(vm, i);
}

bool vm_logged(struct vm *vm, uint64_t address)
{
	return vm->log[address / PAGE / 8] & 1 << address / PAGE % 8;
}

static struct vring_desc describe(const struct seg *seg, bool last, uint16_t next)
{
	return (struct vring_desc){
		.addr = seg->address,
		.len = seg->length,
		.flags = (seg->writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT),
		.next = last ? 0 : next,
	};
}

/* Descriptors are taken in turn: the caller keeps fewer than RING_NUM in flight. */
unsigned int submit(struct vm *vm, unsigned int queue, const struct seg *segs, unsigned int count, uint64_t indirect)
{
	struct ring *ring = &vm->ring[queue];
	unsigned int head = ring->next_desc % RING_NUM;
	uint16_t index = ring->avail->idx;

	if (indirect) {
		struct vring_desc *table = guest(vm, indirect);

		for (unsigned int i = 0; i < count; i++)
			table[i] = describe(&segs[i], i + 1 == count, i + 1);
		ring->desc[head] = (struct vring_desc){
			.addr = indirect, .len = count * sizeof(*table), .flags = VRING_DESC_F_INDIRECT,
		};
		ring->next_desc++;
	} else {
		for (unsigned int i = 0; i < count; i++, ring->next_desc++)
			ring->desc[ring->next_desc % RING_NUM] =
				describe(&segs[i], i + 1 == count, (ring->next_desc + 1) % RING_NUM);
	}
	ring->avail->ring[index % RING_NUM] = head;
	__atomic_store_n(&ring->avail->idx, index + 1, __ATOMIC_SEQ_CST);
	return head;
}

void kick(struct vm *vm, unsigned int queue)
{
	uint64_t one = 1;

	CHECK(write(vm->ring[queue].kick, &one, sizeof(one)) == sizeof(one), "kick: %s", strerror(errno));
}

bool reap(struct vm *vm, unsigned int queue, struct vring_used_elem *used, int timeout_ms)
{
	struct ring *ring = &vm->ring[queue];

	while (__atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST) == ring->used_seen) {
		struct pollfd poll_call = { .fd = ring->call, .events = POLLIN };
		uint64_t calls;

		if (poll(&poll_call, 1, timeout_ms) <= 0)
			return __atomic_load_n(&ring->used->idx, __ATOMIC_SEQ_CST) != ring->used_seen &&
			       (fail("a used element came without a call"), false);
		if (read(ring->call, &calls, sizeof(calls)) < 0)
			continue;
	}
	*used = ring->used->ring[ring->used_seen++ % RING_NUM];
	return true;
}

struct vring_used_elem must_reap(struct vm *vm, unsigned int queue)
{
	struct vring_used_elem used;

	CHECK(reap(vm, queue, &used, SOON_MS), "no answer within %d ms", SOON_MS);
	return used;
}

uint64_t header_address(unsigned int queue, unsigned int slot)
{
	return SLOT_AREA(queue) + slot * 32;
}

uint64_t status_address(unsigned int queue, unsigned int slot)
{
	return header_address(queue, slot) + 16;
}

void put_header(struct vm *vm, uint64_t address, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr header = { .type = type, .sector = sector };

	guest_write(vm, address, &header, sizeof(header));
}

static bool device_writes(uint32_t type)
{
	return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
}

unsigned int start_request(struct vm *vm, unsigned int queue, unsigned int slot, uint32_t type, uint64_t sector,
			   uint64_t data, uint32_t length)
{
	struct seg segs[3] = { { header_address(queue, slot), 16, false } };
	unsigned int count = 1;

	put_header(vm, header_address(queue, slot), type, sector);
	*(uint8_t *)guest(vm, status_address(queue, slot)) = 0xee;
	if (length)
		segs[count++] = (struct seg){ data, length, device_writes(type) };
	segs[count++] = (struct seg){ status_address(queue, slot), 1, true };
	return submit(vm, queue, segs, count, 0);
}

int request(struct vm *vm, unsigned int queue, uint32_t type, uint64_t sector, uint64_t data, uint32_t length)
{
	unsigned int head = start_request(vm, queue, 0, type, sector, data, length);
	struct vring_used_elem used;
	int status;

	kick(vm, queue);
	used = must_reap(vm, queue);
	status = *(uint8_t *)guest(vm, status_address(queue, 0));
	EQUAL(used.id, head, "the used element's head");
	if (status == VIRTIO_BLK_S_OK)
		EQUAL(used.len, (device_writes(type) ? length : 0) + 1, "used.len");
	return status;
}

static void image_path(char *path, const char *name)
{
	snprintf(path, PATH_MAX, "%s/%s", test_dir, name);
}

int open_image(const char *name, int open_flags)
{
	char path[PATH_MAX];
	int fd;

	image_path(path, name);
	fd = open(path, open_flags | O_CLOEXEC);
	CHECK(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

int make_image(const char *name, uint64_t size, int open_flags)
{
	char path[PATH_MAX];
	int fd;

	image_path(path, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && !ftruncate(fd, size), "%s: %s", path, strerror(errno));
	close(fd);
	return open_image(name, open_flags);
}

long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void pattern(uint8_t *data, size_t length, uint64_t seed)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15ULL + 1;

	for (size_t i = 0; i < length; i++) {
		state = state * 6364136223846793005ULL + 1442695040888963407ULL;
		data[i] = state >> 56;
	}
}

const struct backend backends[4] = {
	{ "buffered file", false, 0 },
	{ "direct file", false, O_DIRECT },
	{ "buffered block device", true, 0 },
	{ "direct block device", true, O_DIRECT },
};

int backend_open(const struct backend *backend, uint64_t size)
{
	static const uint8_t zeroes[64 * KIB];
	int fd;

	if (!backend->block)
		return make_image("image", size, O_RDWR | backend->flags);
	fd = open(test_block, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0, "%s: %s", test_block, strerror(errno));
	for (uint64_t at = 0; at < size; at += sizeof(zeroes))
		CHECK(pwrite(fd, zeroes, sizeof(zeroes), at) == sizeof(zeroes), "%s: %s", test_block, strerror(errno));
	fsync(fd);
	close(fd);
	fd = open(test_block, O_RDWR | O_CLOEXEC | backend->flags);
	CHECK(fd >= 0, "%s: %s", test_block, strerror(errno));
	return fd;
}

void backend_read(const struct backend *backend, uint64_t position, void *data, size_t length)
{
	uint64_t start = position & ~(PAGE - 1), end = (position + length + PAGE - 1) & ~(PAGE - 1);
	uint8_t *bounce = aligned_alloc(PAGE, end - start);
	int fd = backend->block ? open(test_block, O_RDONLY | O_CLOEXEC | backend->flags) :
				  open_image("image", O_RDONLY | backend->flags);

	CHECK(fd >= 0, "%s: %s", test_block, strerror(errno));
	CHECK(pread(fd, bounce, end - start, start) >= (ssize_t)(position - start + length), "reading the backend: %s",
	      strerror(errno));
	memcpy(data, bounce + (position - start), length);
	free(bounce);
	close(fd);
}
