/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mends a fault of QEMU's emulation of SVM in the QEMU that emulates L1; loaded as a TCG plugin.
 *
 * VMRUN that injects an external interrupt (EVENTINJ, AMD64 Architecture Programmer's Manual, volume 2, 15.20) delivers it at once,
 * but leaves its vector in CPUState.exception_index (helper_vmrun() in target/i386/tcg/system/svm_helper.c, QEMU 10.0). If the
 * emulator's loop is left before the next VMEXIT, because another thread wants something of the processor or, with -icount, because
 * a slice of time is over, the loop takes that for an exception that is still to be raised: the guest gets the interrupt a second
 * time, wherever it is, with interrupts off. Its handlers deadlock on their own locks, or its stack overflows.
 *
 * So do_interrupt_x86_hardirq(), which delivers, is replaced by one that delivers and leaves nothing behind. Its other caller,
 * the loop itself, does that afterwards anyhow.
 */
#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "qemu/qemu-plugin.h"
#include <sys/mman.h>

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* Both are the emulator's (target/i386/tcg/helper-tcg.h); a CPUX86State lies behind the CPUState. */
void do_interrupt_x86_hardirq(void *env, int vector, int is_hw);
void do_interrupt_all(CPUState *cpu, int vector, int is_int, int error_code, uint64_t next_eip, int is_hw);

static void deliver_once(void *env, int vector, int is_hw)
{
    CPUState *cpu = env - sizeof(CPUState);

    do_interrupt_all(cpu, vector, 0, 0, 0, is_hw);
    cpu->exception_index = -1;
}

/*
 * endbr64; mov %edx,%r9d; sub $sizeof(CPUState),%rdi: the function as it is compiled. Anything else is not touched.
 */
static bool is_known(const uint8_t *code)
{
    static const uint8_t begin[] = { 0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x89, 0xd1, 0x48, 0x81, 0xef };
    uint32_t size;

    memcpy(&size, code + sizeof(begin), sizeof(size));
    return memcmp(code, begin, sizeof(begin)) == 0 && size == sizeof(CPUState);
}

/* jmp *0(%rip), and the address. */
static bool replace(uint8_t *code, void *by)
{
    static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
    size_t page_size = getpagesize();
    uint8_t *page = (uint8_t *)((uintptr_t)code & -page_size);
    size_t length = code + sizeof(jump) + sizeof(by) - page;

    if (mprotect(page, length, PROT_READ | PROT_WRITE | PROT_EXEC) < 0) {
        perror("interrupt-once: mprotect");
        return false;
    }
    memcpy(code, jump, sizeof(jump));
    memcpy(code + sizeof(jump), &by, sizeof(by));
    return mprotect(page, length, PROT_READ | PROT_EXEC) == 0;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    uint8_t *code = (uint8_t *)do_interrupt_x86_hardirq;

    if (!is_known(code)) {
        /* The lab works without, but for a guest that hangs now and then. */
        fprintf(stderr, "interrupt-once: this QEMU delivers interrupts by other code than the one known; guests may hang\n");
        return 0;
    }
    return replace(code, deliver_once) ? 0 : -1;
}
