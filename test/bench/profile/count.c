// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A TCG plugin (QEMU's docs/devel/tcg-plugins.rst) that counts the instructions the emulated machine executes, by where they
 * lie: a counter for each block of kernel code, one for all of user space; and the same for the KVM guests in it. One vCPU.
 *
 *   -plugin file=count.so,requests=FIFO
 *
 * Each line that is written to the FIFO names a file, to which the counts since the start are written then: lines
 * "ADDRESS COUNT", hexadecimal and decimal, address 0 for user space, and "guest ADDRESS COUNT". The file appears complete,
 * by a rename.
 *
 * A guest begins behind VMRUN and ends with the instruction that follows it (AMD64 Architecture Programmer's Manual, volume 2,
 * 15.5). QEMU translates a block for a guest apart from that for its host, so it is enough to know at the translation whose it is.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* Slots of a hash table that never shrinks; a kernel's boot and work fill a quarter of it. */
#define SLOTS (1u << 18)
/* Two slots that no address hashes to: the host's user space, and the guests'. */
#define USER_SPACE 0
#define GUEST_USER_SPACE 1

/* Kernel addresses have their highest bit set: without it one is a guest's. */
#define HOST_BIT (1ULL << 63)

static uint64_t addresses[SLOTS];
static bool in_guest;
static uint64_t behind_vmrun;
static unsigned int used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct qemu_plugin_scoreboard *counts; /* per vCPU: uint64_t[SLOTS] */
static const char *fifo;

static unsigned int slot_of(uint64_t address)
{
	unsigned int slot;

	/* The upper half of the address space is the kernel's. */
	if (!(address & HOST_BIT))
		return in_guest ? GUEST_USER_SPACE : USER_SPACE;
	if (in_guest)
		address &= ~HOST_BIT;
	pthread_mutex_lock(&lock);
	slot = (address * 0x9e3779b97f4a7c15ULL) >> 46;
	while (slot <= GUEST_USER_SPACE || (addresses[slot] && addresses[slot] != address))
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

static void enter_guest(unsigned int vcpu, void *unused)
{
	(void)vcpu;
	(void)unused;
	in_guest = true;
}

static void leave_guest(unsigned int vcpu, void *unused)
{
	(void)vcpu;
	(void)unused;
	in_guest = false;
}

static bool is_vmrun(struct qemu_plugin_insn *insn)
{
	static const uint8_t vmrun[] = { 0x0f, 0x01, 0xd8 };
	uint8_t bytes[sizeof(vmrun)];

	return qemu_plugin_insn_size(insn) == sizeof(vmrun) &&
	       qemu_plugin_insn_data(insn, bytes, sizeof(bytes)) == sizeof(bytes) && !memcmp(bytes, vmrun, sizeof(vmrun));
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	/* VMRUN ends a block. */
	struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, qemu_plugin_tb_n_insns(tb) - 1);

	(void)id;
	if (behind_vmrun && qemu_plugin_tb_vaddr(tb) == behind_vmrun) {
		in_guest = false;
		qemu_plugin_register_vcpu_tb_exec_cb(tb, leave_guest, QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
	if (is_vmrun(last)) {
		behind_vmrun = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
		qemu_plugin_register_vcpu_insn_exec_cb(last, enter_guest, QEMU_PLUGIN_CB_NO_REGS, NULL);
	}
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

		if (!count)
			continue;
		if (slot == GUEST_USER_SPACE || (slot != USER_SPACE && !(addresses[slot] & HOST_BIT)))
			fprintf(file, "guest %" PRIx64 " %" PRIu64 "\n",
				slot == GUEST_USER_SPACE ? 0 : addresses[slot] | HOST_BIT, count);
		else
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
