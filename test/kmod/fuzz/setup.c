// SPDX-License-Identifier: GPL-2.0-or-later
/* A life's VM: memory with guards, rings, backends. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD 0x9d

/*
 * The memory table: the hostile area in two parts, so that buffers across regions are theirs too; what comes and
 * goes; and the rest.
 */
int run_memory(struct run *run)
{
	const uint64_t middle = HOSTILE_AREA(1) + HOSTILE_SIZE / 2;
	const uint64_t edges[][2] = { { GUEST_BASE, BORDER }, { BORDER, middle }, { middle, GUEST_END } };
	struct {
		struct vhost_memory memory;
		struct vhost_memory_region regions[4];
	} table = { .memory.nregions = 3 };

	for (int i = 0; i < 3; i++)
		table.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = edges[i][0],
			.memory_size = edges[i][1] - edges[i][0],
			.userspace_addr = (uintptr_t)guest(run->vm, edges[i][0]),
		};
	if (run->volatile_memory)
		table.regions[table.memory.nregions++] = (struct vhost_memory_region){
			.guest_phys_addr = VOLATILE_BASE,
			.memory_size = VOLATILE_SIZE,
			.userspace_addr = (uintptr_t)run->volatile_memory,
		};
	return vm_ioctl(run->vm, VHOST_SET_MEM_TABLE, &table);
}

static void set_ring(struct run *run, unsigned int queue, unsigned int num)
{
	struct vm *vm = run->vm;
	struct ring *ring = &vm->ring[queue];
	struct vhost_vring_state state = { .index = queue, .num = num };
	struct vhost_vring_addr address = {
		.index = queue,
		.flags = vm->log ? 1 << VHOST_VRING_F_LOG : 0,
		.desc_user_addr = (uintptr_t)ring->desc,
		.avail_user_addr = (uintptr_t)ring->avail,
		.used_user_addr = (uintptr_t)ring->used,
		.log_guest_addr = ring->address + 16 * KIB,
	};

	memset(ring->desc, 0, 24 * KIB);
	ring->used_seen = 0;
	vm_ioctl(vm, VHOST_SET_VRING_NUM, &state);
	state.num = 0;
	vm_ioctl(vm, VHOST_SET_VRING_BASE, &state);
	vm_ioctl(vm, VHOST_SET_VRING_ADDR, &address);
}

void tame_ring_reset(struct run *run, unsigned int queue)
{
	set_ring(run, queue, run->life->num);
}

void hostile_ring_reset(struct run *run, unsigned int queue)
{
	struct ring *ring = &run->vm->ring[queue];

	ring->address = HOSTILE_AREA(queue - run->life->tame);
	ring->desc = guest(run->vm, ring->address);
	ring->avail = guest(run->vm, ring->address + 8 * KIB);
	ring->used = guest(run->vm, ring->address + 16 * KIB);
	set_ring(run, queue, RING_NUM);
}

static uint64_t guard_address(unsigned int i)
{
	/* Behind each tame queue's slots, and around everything hostile. */
	return i < MAX_TAME ? TAME_AREA(i + 1) - PAGE : i == MAX_TAME ? TAME_AREA(0) - PAGE : HOSTILE_AREA(0) - PAGE;
}

void run_guard(struct run *run)
{
	for (unsigned int i = 0; i < MAX_TAME + 2; i++)
		memset(guest(run->vm, guard_address(i)), GUARD, PAGE);
}

void run_check_guards(struct run *run)
{
	for (unsigned int i = 0; i < MAX_TAME + 2; i++) {
		const uint8_t *page = guest(run->vm, guard_address(i));

		for (unsigned int k = 0; k < PAGE; k++)
			CHECK(page[k] == GUARD, "guest memory that no request named was written, at %#llx",
			      (unsigned long long)guard_address(i) + k);
	}
}

int open_backend(const struct life *life, bool tame, struct random *random)
{
	const struct image *image = tame ? life->image : life->hostile_image;
	int flags = tame ? life->open_flags : life->hostile_flags;

	/* A read-only disk is content with a read-only descriptor. */
	if (life->flags & VHOST_BLK_CONFIG_READ_ONLY && chance(random, 50))
		return image_open(image, flags | O_RDONLY);
	return image_open(image, flags | O_RDWR);
}

struct run *run_open(const struct life *life)
{
	struct run *run = calloc(1, sizeof(*run));
	struct random random = { life->seed ^ 0x5e70 };

	run->life = life;
	run->vm = vm_open(life->tame + life->hostile, life->features);
	for (int i = 0; i < MAX_QUEUES; i++)
		pthread_mutex_init(&run->lock[i], NULL);
	if (life->wild) {
		/* With nothing of ours for a long way behind it. */
		run->volatile_memory = mmap(NULL, VOLATILE_SIZE + 2 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		CHECK(run->volatile_memory != MAP_FAILED &&
		      !mprotect(run->volatile_memory, VOLATILE_SIZE, PROT_READ | PROT_WRITE), "no memory");
	}
	EQUAL(run_memory(run), 0, "SET_MEM_TABLE");
	run_guard(run);
	if (life->log) {
		vm_log_start(run->vm);
		atomic_store(&run->log_epoch, 1);
	}
	for (unsigned int i = 0; i < run->vm->queues; i++) {
		if (i < life->tame)
			tame_ring_reset(run, i);
		else
			hostile_ring_reset(run, i);
	}
	EQUAL(vm_configure(run->vm, life->capacity, life->offset, life->flags), 0, "SET_CONFIG");
	for (unsigned int i = 0; i < run->vm->queues; i++) {
		int fd = open_backend(life, i < life->tame, &random);

		EQUAL(vm_backend(run->vm, i, fd), 0, "SET_BACKEND");
		close(fd);
	}
	return run;
}
