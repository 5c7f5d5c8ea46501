// SPDX-License-Identifier: GPL-2.0-only
#include "btf.h"

#include <elf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *fmt, ...)
{
	va_list args;

	fputs("vhost-header: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

struct blob read_whole_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	size_t room = 1 << 20, size = 0, n;
	uint8_t *data = malloc(room);

	if (!file)
		die("cannot open %s: %m", path);
	/* Files in /sys lie about their size: read until the end. */
	while (data && (n = fread(data + size, 1, room - size, file)) > 0) {
		size += n;
		if (size == room)
			data = realloc(data, room *= 2);
	}
	if (!data)
		die("out of memory reading %s", path);
	if (ferror(file))
		die("cannot read %s: %m", path);
	fclose(file);
	return (struct blob){ path, data, size };
}

static bool is_elf(struct blob file)
{
	return file.size >= sizeof(Elf64_Ehdr) && !memcmp(file.data, ELFMAG, SELFMAG) &&
	       file.data[EI_CLASS] == ELFCLASS64;
}

static bool inside(uint64_t offset, uint64_t size, uint64_t total)
{
	return offset <= total && size <= total - offset;
}

struct blob elf_section(struct blob elf, const char *name)
{
	const Elf64_Ehdr *header = (const void *)elf.data;
	const Elf64_Shdr *sections, *names;

	if (!is_elf(elf))
		die("%s is not a 64-bit ELF file", elf.path);
	if (!inside(header->e_shoff, (uint64_t)header->e_shnum * sizeof(*sections), elf.size) ||
	    header->e_shstrndx >= header->e_shnum)
		die("%s: damaged ELF section table", elf.path);
	sections = (const void *)(elf.data + header->e_shoff);
	names = &sections[header->e_shstrndx];
	if (!inside(names->sh_offset, names->sh_size, elf.size) || !names->sh_size ||
	    elf.data[names->sh_offset + names->sh_size - 1])
		die("%s: damaged ELF section names", elf.path);
	for (unsigned int i = 0; i < header->e_shnum; i++) {
		const Elf64_Shdr *section = &sections[i];

		if (section->sh_name >= names->sh_size ||
		    strcmp((const char *)elf.data + names->sh_offset + section->sh_name, name))
			continue;
		if (!inside(section->sh_offset, section->sh_size, elf.size))
			die("%s: section %s reaches past the end of the file", elf.path, name);
		return (struct blob){ elf.path, elf.data + section->sh_offset, section->sh_size };
	}
	return (struct blob){ elf.path, NULL, 0 };
}

unsigned int btf_kind(const struct btf_type *type)
{
	return BTF_INFO_KIND(type->info);
}

unsigned int btf_vlen(const struct btf_type *type)
{
	return BTF_INFO_VLEN(type->info);
}

/* Bytes that follow struct btf_type. */
static size_t tail_size(const struct btf_type *type)
{
	unsigned int n = btf_vlen(type);

	switch (btf_kind(type)) {
	case BTF_KIND_INT:
		return sizeof(uint32_t);
	case BTF_KIND_ARRAY:
		return sizeof(struct btf_array);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return n * sizeof(struct btf_member);
	case BTF_KIND_ENUM:
		return n * sizeof(struct btf_enum);
	case BTF_KIND_FUNC_PROTO:
		return n * sizeof(struct btf_param);
	case BTF_KIND_VAR:
		return sizeof(struct btf_var);
	case BTF_KIND_DATASEC:
		return n * sizeof(struct btf_var_secinfo);
	case BTF_KIND_DECL_TAG:
		return sizeof(struct btf_decl_tag);
	case BTF_KIND_ENUM64:
		return n * sizeof(struct btf_enum64);
	case BTF_KIND_PTR:
	case BTF_KIND_FWD:
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_CONST:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_FUNC:
	case BTF_KIND_FLOAT:
	case BTF_KIND_TYPE_TAG:
		return 0;
	default:
		die("a BTF kind that this program does not know: %u", btf_kind(type));
	}
}

struct btf *btf_parse(struct blob file, const struct btf *base)
{
	struct blob raw = is_elf(file) ? elf_section(file, ".BTF") : file;
	const struct btf_header *header = (const void *)raw.data;
	struct btf *btf = calloc(1, sizeof(*btf));
	const uint8_t *at, *end;
	size_t room = 1 << 12;

	if (!raw.data)
		die("%s has no .BTF section: its kernel was built without BTF; give a kernel source tree as KSRC=",
		    file.path);
	if (raw.size < sizeof(*header) || header->magic != BTF_MAGIC)
		die("%s holds no BTF of this machine's byte order", file.path);
	if (!inside(header->hdr_len, header->type_off, raw.size) ||
	    !inside((uint64_t)header->hdr_len + header->type_off, header->type_len, raw.size) ||
	    !inside((uint64_t)header->hdr_len + header->str_off, header->str_len, raw.size) || !header->str_len)
		die("%s: damaged BTF", file.path);

	btf->base = base;
	btf->first_id = base ? base->end_id : 1;
	btf->end_id = btf->first_id;
	btf->first_string = base ? base->first_string + base->strings_size : 0;
	btf->strings = (const char *)raw.data + header->hdr_len + header->str_off;
	btf->strings_size = header->str_len;
	if (btf->strings[btf->strings_size - 1])
		die("%s: BTF strings have no end", file.path);

	btf->types = malloc(room * sizeof(*btf->types));
	at = raw.data + header->hdr_len + header->type_off;
	end = at + header->type_len;
	while (at < end) {
		const struct btf_type *type = (const void *)at;

		if ((size_t)(end - at) < sizeof(*type) || (size_t)(end - at) - sizeof(*type) < tail_size(type))
			die("%s: BTF types have no end", file.path);
		if (btf->end_id - btf->first_id == room)
			btf->types = realloc(btf->types, (room *= 2) * sizeof(*btf->types));
		if (!btf->types)
			die("out of memory");
		btf->types[btf->end_id++ - btf->first_id] = type;
		at += sizeof(*type) + tail_size(type);
	}
	return btf;
}

const struct btf_type *btf_type(const struct btf *btf, uint32_t id)
{
	static const struct btf_type void_type;

	if (!id)
		return &void_type;
	while (btf && id < btf->first_id)
		btf = btf->base;
	if (!btf || id >= btf->end_id)
		die("BTF refers to type %u, which is not there: vhost.ko and the base BTF are of different kernels",
		    id);
	return btf->types[id - btf->first_id];
}

const char *btf_string(const struct btf *btf, uint32_t offset)
{
	while (btf && offset < btf->first_string)
		btf = btf->base;
	if (!btf || offset - btf->first_string >= btf->strings_size)
		die("BTF refers to a string that is not there: vhost.ko and the base BTF are of different kernels");
	return btf->strings + (offset - btf->first_string);
}

const char *btf_name(const struct btf *btf, uint32_t id)
{
	return btf_string(btf, btf_type(btf, id)->name_off);
}

uint32_t btf_find(const struct btf *btf, unsigned int kind, const char *name)
{
	for (; btf; btf = btf->base)
		for (uint32_t id = btf->first_id; id < btf->end_id; id++)
			if (btf_kind(btf_type(btf, id)) == kind && !strcmp(btf_name(btf, id), name))
				return id;
	return 0;
}
