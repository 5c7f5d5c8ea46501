/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Reading BTF (Documentation/bpf/btf.rst): the kernel's own description of its types, in the .BTF section of vmlinux
 * and of each module. A module's BTF is "split": its type and string numbers go on where those of its base end.
 */
#ifndef VHOST_GEN_BTF_H
#define VHOST_GEN_BTF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/btf.h>

struct blob {
	const char *path;
	const uint8_t *data;
	size_t size;
};

/* One BTF and, for split BTF, the base whose numbers it continues. */
struct btf {
	const struct btf *base;
	uint32_t first_id;		/* of the types held here; 1 in a base */
	uint32_t end_id;		/* one past the last */
	const struct btf_type **types;	/* indexed by id - first_id */
	const char *strings;
	uint32_t first_string;		/* what offset 0 of strings counts as */
	uint32_t strings_size;
};

/* All of these print one line and exit on failure: the program makes one file and has nothing to go on with. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...);
struct blob read_whole_file(const char *path);
/* A section of a 64-bit ELF file; data is NULL if there is none. */
struct blob elf_section(struct blob elf, const char *name);
/* Takes an ELF file with a .BTF section, or bare BTF as /sys/kernel/btf/vmlinux is. */
struct btf *btf_parse(struct blob file, const struct btf *base);

const struct btf_type *btf_type(const struct btf *btf, uint32_t id);
const char *btf_string(const struct btf *btf, uint32_t offset);
const char *btf_name(const struct btf *btf, uint32_t id);
unsigned int btf_kind(const struct btf_type *type);
unsigned int btf_vlen(const struct btf_type *type);
/* The id of the type of that kind and name, looked for here first and then in the base; 0 if there is none. */
uint32_t btf_find(const struct btf *btf, unsigned int kind, const char *name);

#endif
