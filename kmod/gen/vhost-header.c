// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes the private header of the kernel's vhost core (drivers/vhost/vhost.h, which no headers package carries) from
 * the BTF of the packaged vhost.ko:
 *
 *   vhost-header RELEASE vhost.ko BASE-BTF Module.symvers PUBLIC-HEADER… > vhost_gen.h
 *   vhost-header --payload bzImage > vmlinux    (still packed unless it is LZ4)
 *
 * What it defines:
 *  - the vhost_* structures, enumerations and typedefs that the public headers lack, each with a _Static_assert of
 *    its size and of every member's offset, so that a wrong layout can't compile;
 *  - prototypes of the functions that vhost.ko exports;
 *  - HAVE_<function> for each of them and for the other exports that compat.h asks about, ARGC_<function> (its number
 *    of arguments), HAVE_vq_<member> and HAVE_vhost_dev_<member>. Version numbers would mislead: stable kernels carry
 *    backports.
 *
 * BTF knows no __user, which sparse wants: pointers into the guest or the caller are known by their names.
 */
#include "btf.h"
#include "lz4.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Exports of the kernel proper that came, went or changed between the supported versions. */
static const char *const probed[] = {
	"eventfd_signal", "eventfd_signal_mask",
};

static const struct btf *btf;
static char *public_text;
static uint8_t *emitted; /* per id of the module's own types: 1 being written, 2 done */

static bool is_word(char c)
{
	return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Do the public headers define this (keyword: struct, union, enum; NULL for a typedef)? */
static bool in_public_headers(const char *keyword, const char *name)
{
	size_t n = strlen(name);

	for (const char *at = public_text; (at = strstr(at, name)); at += n) {
		const char *before = at, *after = at + n;

		if (is_word(*after) || at == public_text || is_word(at[-1]))
			continue;
		while (before > public_text && (before[-1] == ' ' || before[-1] == '\t'))
			before--;
		while (*after == ' ' || *after == '\t' || *after == '\n')
			after++;
		if (!keyword) {
			if (*after == ';' && before > public_text && before[-1] != '>')
				return true;
			continue;
		}
		if (*after == '{' && (size_t)(before - public_text) >= strlen(keyword) &&
		    !strncmp(before - strlen(keyword), keyword, strlen(keyword)))
			return true;
	}
	return false;
}

static const char *keyword_of(unsigned int kind)
{
	return kind == BTF_KIND_STRUCT ? "struct" : kind == BTF_KIND_UNION ? "union" : "enum";
}

static bool is_ours(uint32_t id)
{
	const struct btf_type *type = btf_type(btf, id);
	const char *name = btf_name(btf, id);

	if (id < btf->first_id || strncmp(name, "vhost_", 6))
		return false;
	switch (btf_kind(type)) {
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
	case BTF_KIND_ENUM:
		return !in_public_headers(keyword_of(btf_kind(type)), name);
	case BTF_KIND_TYPEDEF:
		return !in_public_headers(NULL, name);
	default:
		return false;
	}
}

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *format(const char *fmt, ...)
{
	va_list args;
	char *text;

	va_start(args, fmt);
	if (vasprintf(&text, fmt, args) < 0)
		die("out of memory");
	va_end(args);
	return text;
}

static char *declare(uint32_t id, const char *name);

static char *params(const struct btf_type *proto)
{
	const struct btf_param *param = (const void *)(proto + 1);
	char *text = btf_vlen(proto) ? format("%s", "") : format("void");

	for (unsigned int i = 0; i < btf_vlen(proto); i++) {
		char *one = !param[i].type && i + 1 == btf_vlen(proto) ?
			    format("...") : declare(param[i].type, btf_string(btf, param[i].name_off));

		text = format("%s%s%s", text, i ? ", " : "", one);
	}
	return text;
}

static char *members(const struct btf_type *type, const char *indent)
{
	const struct btf_member *member = (const void *)(type + 1);
	bool bits = BTF_INFO_KFLAG(type->info);
	char *text = format("{\n");

	for (unsigned int i = 0; i < btf_vlen(type); i++) {
		char *one = declare(member[i].type, btf_string(btf, member[i].name_off));

		if (bits && BTF_MEMBER_BITFIELD_SIZE(member[i].offset))
			one = format("%s : %u", one, BTF_MEMBER_BITFIELD_SIZE(member[i].offset));
		text = format("%s%s\t%s;\n", text, indent, one);
	}
	return format("%s%s}", text, indent);
}

static char *enumerators(const struct btf_type *type)
{
	const struct btf_enum *value = (const void *)(type + 1);
	char *text = format("{\n");

	for (unsigned int i = 0; i < btf_vlen(type); i++)
		text = format("%s\t%s = %d,\n", text, btf_string(btf, value[i].name_off), value[i].val);
	return format("%s}", text);
}

/* Names by which drivers/vhost/vhost.h calls addresses of user space. */
static bool is_user_pointer(const char *name)
{
	static const char *const names[] = { "argp", "desc", "avail", "used", "log_base" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* C reads declarations from the name outwards, BTF from the outside in: name grows while the chain is walked. */
static char *declare(uint32_t id, const char *name)
{
	const struct btf_type *type = btf_type(btf, id);
	const char *own = btf_name(btf, id);
	const struct btf_array *array;
	const char *space = *name ? " " : "";
	unsigned int inner;

	switch (btf_kind(type)) {
	case BTF_KIND_UNKN:
		return format("void%s%s", space, name);
	case BTF_KIND_PTR:
		if (is_user_pointer(name))
			return declare(type->type, format("__user *%s", name));
		inner = btf_kind(btf_type(btf, type->type));
		return declare(type->type, inner == BTF_KIND_ARRAY || inner == BTF_KIND_FUNC_PROTO ?
					   format("(*%s)", name) : format("*%s", name));
	case BTF_KIND_ARRAY:
		array = (const void *)(type + 1);
		return declare(array->type, format("%s[%u]", name, array->nelems));
	case BTF_KIND_FUNC_PROTO:
		return declare(type->type, format("%s(%s)", name, params(type)));
	case BTF_KIND_CONST:
		if (btf_kind(btf_type(btf, type->type)) == BTF_KIND_PTR)
			return declare(type->type, format("const %s", name));
		return format("const %s", declare(type->type, name));
	case BTF_KIND_VOLATILE:
		return format("volatile %s", declare(type->type, name));
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		return declare(type->type, name);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		if (!*own)
			return format("%s %s%s%s", keyword_of(btf_kind(type)), members(type, "\t"), space, name);
		return format("%s %s%s%s", keyword_of(btf_kind(type)), own, space, name);
	case BTF_KIND_FWD:
		return format("%s %s%s%s", BTF_INFO_KFLAG(type->info) ? "union" : "struct", own, space, name);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		if (!*own)
			return format("enum %s%s%s", enumerators(type), space, name);
		return format("enum %s%s%s", own, space, name);
	case BTF_KIND_INT:
		return format("%s%s%s", !strcmp(own, "_Bool") ? "bool" : own, space, name);
	case BTF_KIND_TYPEDEF:
	case BTF_KIND_FLOAT:
		return format("%s%s%s", own, space, name);
	default:
		die("a type of BTF kind %u where none belongs", btf_kind(type));
	}
}

static void emit(uint32_t id);

/* Writes what a declaration with this type needs first: definitions of ours, forward declarations of the rest. */
static void emit_needs(uint32_t id)
{
	const struct btf_type *type = btf_type(btf, id);
	const struct btf_member *member;
	const struct btf_param *param;
	uint32_t target;

	switch (btf_kind(type)) {
	case BTF_KIND_PTR:
		target = type->type;
		while (btf_kind(btf_type(btf, target)) == BTF_KIND_CONST ||
		       btf_kind(btf_type(btf, target)) == BTF_KIND_VOLATILE)
			target = btf_type(btf, target)->type;
		switch (btf_kind(btf_type(btf, target))) {
		case BTF_KIND_STRUCT:
		case BTF_KIND_UNION:
		case BTF_KIND_FWD:
			/* An incomplete type will do, and breaks the circles. */
			if (*btf_name(btf, target))
				printf("%s;\n", declare(target, ""));
			return;
		default:
			emit_needs(target);
			return;
		}
	case BTF_KIND_ARRAY:
		emit_needs(((const struct btf_array *)(type + 1))->type);
		return;
	case BTF_KIND_CONST:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		emit_needs(type->type);
		return;
	case BTF_KIND_FUNC_PROTO:
		param = (const void *)(type + 1);
		emit_needs(type->type);
		for (unsigned int i = 0; i < btf_vlen(type); i++)
			emit_needs(param[i].type);
		return;
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		if (!*btf_name(btf, id)) {
			member = (const void *)(type + 1);
			for (unsigned int i = 0; i < btf_vlen(type); i++)
				emit_needs(member[i].type);
			return;
		}
		emit(id);
		return;
	default:
		emit(id);
	}
}

static void emit_asserts(uint32_t id)
{
	const struct btf_type *type = btf_type(btf, id);
	const struct btf_member *member = (const void *)(type + 1);
	const char *keyword = keyword_of(btf_kind(type)), *name = btf_name(btf, id);
	bool bits = BTF_INFO_KFLAG(type->info);

	printf("_Static_assert(sizeof(%s %s) == %u, \"%s: size\");\n", keyword, name, type->size, name);
	for (unsigned int i = 0; i < btf_vlen(type); i++) {
		const char *field = btf_string(btf, member[i].name_off);
		uint32_t offset = bits ? BTF_MEMBER_BIT_OFFSET(member[i].offset) : member[i].offset;

		if (*field && !(bits && BTF_MEMBER_BITFIELD_SIZE(member[i].offset)))
			printf("_Static_assert(offsetof(%s %s, %s) == %u, \"%s.%s: offset\");\n",
			       keyword, name, field, offset / 8, name, field);
	}
}

static void emit(uint32_t id)
{
	const struct btf_type *type = btf_type(btf, id);
	const struct btf_member *member = (const void *)(type + 1);
	unsigned int kind = btf_kind(type);

	if (!is_ours(id) || emitted[id - btf->first_id])
		return;
	emitted[id - btf->first_id] = 1;
	switch (kind) {
	case BTF_KIND_TYPEDEF:
		emit_needs(type->type);
		printf("typedef %s;\n\n", declare(type->type, btf_name(btf, id)));
		break;
	case BTF_KIND_ENUM:
		printf("enum %s %s;\n\n", btf_name(btf, id), enumerators(type));
		break;
	default:
		for (unsigned int i = 0; i < btf_vlen(type); i++)
			emit_needs(member[i].type);
		printf("\n%s %s %s;\n", keyword_of(kind), btf_name(btf, id), members(type, ""));
		emit_asserts(id);
		printf("\n");
	}
	emitted[id - btf->first_id] = 2;
}

static void emit_have_members(const char *structure, const char *prefix)
{
	uint32_t id = btf_find(btf, BTF_KIND_STRUCT, structure);
	const struct btf_type *type = btf_type(btf, id);
	const struct btf_member *member = (const void *)(type + 1);

	for (unsigned int i = 0; i < btf_vlen(type); i++)
		printf("#define HAVE_%s_%s 1\n", prefix, btf_string(btf, member[i].name_off));
}

static const struct btf_type *find_proto(const char *function)
{
	uint32_t id = btf_find(btf, BTF_KIND_FUNC, function);

	return id ? btf_type(btf, btf_type(btf, id)->type) : NULL;
}

/* Module.symvers: CRC, symbol, module, kind of export, namespace, separated by tabs. */
static void emit_exports(struct blob symvers)
{
	char *text = format("%.*s", (int)symvers.size, (const char *)symvers.data);
	unsigned int count = 0;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char symbol[128], module[256];
		const struct btf_type *proto;
		bool wanted = false;

		if (sscanf(line, "%*s %127s %255s", symbol, module) != 2)
			continue;
		if (!strcmp(module, "drivers/vhost/vhost")) {
			proto = find_proto(symbol);
			if (!proto)
				continue;
			emit_needs(btf_type(btf, btf_find(btf, BTF_KIND_FUNC, symbol))->type);
			printf("%s;\n", declare(proto->type, format("%s(%s)", symbol, params(proto))));
			count++;
		} else {
			for (size_t i = 0; i < sizeof(probed) / sizeof(*probed); i++)
				wanted |= !strcmp(symbol, probed[i]) && !strcmp(module, "vmlinux");
			if (!wanted)
				continue;
			proto = find_proto(symbol);
		}
		printf("#define HAVE_%s 1\n", symbol);
		if (proto)
			printf("#define ARGC_%s %u\n", symbol, btf_vlen(proto));
	}
	if (!count)
		die("%s names no function of drivers/vhost/vhost: the kernel is built without CONFIG_VHOST=m",
		    symvers.path);
}

/* A base of another build gives names and types at random: look whether three well-known ones make sense. */
static void check_base(const char *base_path)
{
	static const struct { const char *member, *type; } known[] = {
		{ "mutex", "mutex" }, { "dev", "vhost_dev" }, { "kick", "file" },
	};
	uint32_t id = btf_find(btf, BTF_KIND_STRUCT, "vhost_virtqueue");
	const struct btf_type *type = btf_type(btf, id);
	const struct btf_member *member = (const void *)(type + 1);
	unsigned int seen = 0;

	for (unsigned int i = 0; id && i < btf_vlen(type); i++)
		for (size_t k = 0; k < sizeof(known) / sizeof(*known); k++) {
			uint32_t target = member[i].type;

			if (strcmp(btf_string(btf, member[i].name_off), known[k].member))
				continue;
			if (btf_kind(btf_type(btf, target)) == BTF_KIND_PTR)
				target = btf_type(btf, target)->type;
			seen += !strcmp(btf_name(btf, target), known[k].type);
		}
	if (seen != sizeof(known) / sizeof(*known))
		die("%s is not the kernel that vhost.ko was built with: install headers and image of the same version",
		    base_path);
}

static void check_release(struct blob module, const char *release)
{
	struct blob info = elf_section(module, ".modinfo");
	const char *at = (const char *)info.data, *end = at + info.size;

	for (; at && at < end; at += strnlen(at, end - at) + 1) {
		if (strncmp(at, "vermagic=", 9))
			continue;
		if (!strncmp(at + 9, release, strlen(release)) && at[9 + strlen(release)] == ' ')
			return;
		die("%s is of kernel %.*s, the headers are of %s", module.path, (int)strcspn(at + 9, " "), at + 9,
		    release);
	}
	die("%s tells no kernel version (vermagic)", module.path);
}

/* Documentation/arch/x86/boot.rst: payload_offset and payload_length count from the protected-mode code. */
static int write_payload(const char *path)
{
	struct blob image = read_whole_file(path), payload;
	uint64_t setup, offset, length;
	uint32_t word;

	if (image.size < 0x260 || memcmp(image.data + 0x202, "HdrS", 4))
		die("%s is not a bzImage", path);
	setup = ((image.data[0x1f1] ? image.data[0x1f1] : 4) + 1) * 512;
	memcpy(&word, image.data + 0x248, sizeof(word));
	offset = setup + word;
	memcpy(&word, image.data + 0x24c, sizeof(word));
	/* The last four bytes are the size of the uncompressed kernel, not part of the compressed stream. */
	length = word - 4ULL;
	if (word < 4 || offset > image.size || length > image.size - offset)
		die("%s: its payload lies outside the file", path);
	payload = (struct blob){ path, image.data + offset, length };
	if (is_lz4(payload))
		payload = lz4_unpack(payload);
	if (fwrite(payload.data, 1, payload.size, stdout) != payload.size || fflush(stdout))
		die("cannot write the payload: %m");
	return 0;
}

int main(int argc, char **argv)
{
	struct blob module, symvers;

	if (argc == 3 && !strcmp(argv[1], "--payload"))
		return write_payload(argv[2]);
	if (argc < 5) {
		fprintf(stderr, "usage: vhost-header RELEASE vhost.ko BASE-BTF Module.symvers PUBLIC-HEADER...\n");
		return 2;
	}

	module = read_whole_file(argv[2]);
	check_release(module, argv[1]);
	btf = btf_parse(module, btf_parse(read_whole_file(argv[3]), NULL));
	check_base(argv[3]);
	symvers = read_whole_file(argv[4]);
	public_text = format("\n");
	for (int i = 5; i < argc; i++) {
		struct blob text = read_whole_file(argv[i]);

		public_text = format("%s%.*s\n", public_text, (int)text.size, (const char *)text.data);
	}
	emitted = calloc(btf->end_id - btf->first_id + 1, 1);
	if (!emitted)
		die("out of memory");

	printf("/* Made by vhost-header from the BTF of kernel %s: do not edit. */\n", argv[1]);
	printf("#ifndef VHOST_GEN_H\n#define VHOST_GEN_H\n\n");
	for (uint32_t id = btf->first_id; id < btf->end_id; id++)
		emit(id);
	emit_exports(symvers);
	emit_have_members("vhost_virtqueue", "vq");
	emit_have_members("vhost_dev", "vhost_dev");
	printf("\n#endif\n");
	if (fflush(stdout) || ferror(stdout))
		die("cannot write the header: %m");
	return 0;
}
