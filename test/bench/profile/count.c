// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A TCG plugin (QEMU's docs/devel/tcg-plugins.rst) that counts the instructions the emulated machine executes, by where they
 * lie: a counter for each block of kernel code, one for all of user space.
 *
 *   -plugin file=count.so,requests=FIFO
 *
 * Each line that is written to the FIFO names a file, to which the counts since the start are written then: lines
 * "ADDRESS COUNT", hexadecimal and decimal, address 0 for user space. The file appears complete, by a rename.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* Slots of a hash table that never shrinks; a kernel's boot and work fill a quarter of it. */
#define SLOTS (1u << 18)
#define USER_SPACE 0

static uint64_t addresses[SLOTS]; /* of slot 0: user space */
static unsigned int used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct qemu_plugin_scoreboard *counts; /* per vCPU: uint64_t[SLOTS] */
static const char *fifo;

static unsigned int slot_of(uint64_t address)
{
	unsigned int slot;

	/* The upper half of the address space is the kernel's. */
	if (!(address >> 63))
		return USER_SPACE;
	pthread_mutex_lock(&lock);
	slot = (address * 0x9e3779b97f4a7c15ULL) >> 46;
	while (slot == USER_SPACE || (addresses[slot] && addresses[slot] != address))
		slot = (slot + 1) % SLOTS;
	if (!addresses[slot]) {
		addresses[slot] = address;
		if (++used > SLOTS / 4 * 3) {
			fprintf(stderr, "count: more code than the table has room for\n");
			exit(1);
		}
	}
	pthread_mutex_unlock(&lock);
	return slot;
}

static qemu_plugin_u64 counter(unsigned int slot)
{
	return (qemu_plugin_u64){ counts, slot * sizeof(uint64_t) };
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	(void)id;
	qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64,
							  counter(slot_of(qemu_plugin_tb_vaddr(tb))),
							  qemu_plugin_tb_n_insns(tb));
}

static void dump(const char *path)
{
	char unfinished[4096 + 4];
	FILE *file;

	snprintf(unfinished, sizeof(unfinished), "%s.new", path);
	file = fopen(unfinished, "w");
	if (!file) {
		perror(unfinished);
		return;
	}
	for (unsigned int slot = 0; slot < SLOTS; slot++) {
		uint64_t count = qemu_plugin_u64_sum(counter(slot));

		if (count)
			fprintf(file, "%" PRIx64 " %" PRIu64 "\n", addresses[slot], count);
	}
	fclose(file);
	rename(unfinished, path);
}

static void *serve(void *unused)
{
	char path[4096];
	/* Open for writing too: no end of file when a writer closes. */
	FILE *file = fopen(fifo, "r+");

	(void)unused;
	if (!file) {
		perror(fifo);
		exit(1);
	}
	while (fgets(path, sizeof(path), file)) {
		path[strcspn(path, "\n")] = '\0';
		dump(path);
	}
	return NULL;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	pthread_t thread;

	(void)info;
	if (argc != 1 || strncmp(argv[0], "requests=", 9)) {
		fprintf(stderr, "count: give requests=FIFO and nothing else\n");
		return -1;
	}
	fifo = strdup(argv[0] + 9);
	counts = qemu_plugin_scoreboard_new(SLOTS * sizeof(uint64_t));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return pthread_create(&thread, NULL, serve, NULL) ? -1 : 0;
}
