/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The way into an unmodified QEMU: `-plugin file=vhost-blk.so` loads an object before the machine is made, and QEMU's
 * own symbols are there for it. It registers two device types and nothing with TCG.
 *
 * The object fits one binary only, the one it was built for; into any other it refuses to go.
 */
#include "vhost-blk.h"
#include <elf.h>
#include <link.h>
#include "qemu/error-report.h"
#include "qemu/qemu-plugin.h"
#include "trace/control.h"

/* QEMU's own elf.h stands before the system's and lacks it. */
#ifndef NT_GNU_BUILD_ID
#define NT_GNU_BUILD_ID 3
#endif

#define BUILD_ID_MAX 64

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* The first object that dl_iterate_phdr shows is the program itself. */
static int copy_program_build_id(struct dl_phdr_info *info, size_t size, void *hex)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        const char *at = (const char *)info->dlpi_addr + segment->p_vaddr;
        const char *end = at + segment->p_memsz;

        while (segment->p_type == PT_NOTE && at + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *note = (const void *)at;
            const char *name = at + sizeof(*note);
            const unsigned char *id = (const void *)(name + QEMU_ALIGN_UP(note->n_namesz, 4));

            if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
                for (unsigned b = 0; b < MIN(note->n_descsz, BUILD_ID_MAX); b++) {
                    sprintf((char *)hex + 2 * b, "%02x", id[b]);
                }
                return 1;
            }
            at = (const char *)id + QEMU_ALIGN_UP(note->n_descsz, 4);
        }
    }
    return 1;
}

/* The binary is the right one; were the headers? Returns what differs, or NULL. */
static const char *check_layout(void)
{
    static const struct {
        const char *type;
        size_t size;
    } expected[] = {
        { TYPE_VIRTIO_DEVICE, sizeof(VirtIODevice) },
        { TYPE_VIRTIO_BLK, sizeof(VirtIOBlock) },
        { TYPE_VIRTIO_PCI, sizeof(VirtIOPCIProxy) },
        { TYPE_VIRTIO_BUS, sizeof(VirtioBusState) },
    };
    ObjectClass *blk;

    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        ObjectClass *klass = object_class_by_name(expected[i].type);

        if (!klass || vblk_instance_size(klass) != expected[i].size) {
            return expected[i].type;
        }
    }
    blk = object_class_by_name(TYPE_VIRTIO_BLK);
    if (vblk_property_offset(DEVICE_CLASS(blk), "queue-size") != offsetof(VirtIOBlock, conf.queue_size)) {
        return "virtio-blk-device.queue-size";
    }
    return NULL;
}

/* QEMU would follow our line with one of its own, which says less, and then exit all the same. */
static G_NORETURN void refuse(void)
{
    exit(1);
}

/* -trace has been looked at already, when our events weren't there yet. */
static void take_arguments(int count, char **arguments)
{
    for (int i = 0; i < count; i++) {
        if (!g_str_has_prefix(arguments[i], "trace=")) {
            error_report("vhost-blk.so takes trace=PATTERN and no other argument, not '%s'", arguments[i]);
            refuse();
        }
        trace_enable_events(arguments[i] + strlen("trace="));
    }
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    char build_id[2 * BUILD_ID_MAX + 1] = "";
    const char *differs;

    dl_iterate_phdr(copy_program_build_id, build_id);
    if (!g_str_equal(build_id, VBLK_BUILD_ID)) {
        error_report("vhost-blk.so was built for another QEMU binary (build id %s, this one has %s): build it for this "
                     "one", VBLK_BUILD_ID, *build_id ? build_id : "none");
        refuse();
    }
    differs = check_layout();
    if (differs) {
        error_report("vhost-blk.so was built with other headers than this QEMU (%s differs): build it again from the "
                     "matching sources", differs);
        refuse();
    }
    vblk_register_trace_events();
    take_arguments(argc, argv);
    vblk_register_device_type();
    vblk_register_pci_types();
    return 0;
}
