// SPDX-License-Identifier: GPL-2.0-or-later

/** What the functions of a kernel are for: the first match wins, of a kernel's function by its name, of a module's as MODULE:NAME. */
const functionGroups: [string, RegExp][] = [
  ['user space', /^user:/],
  ['KVM', /^(kvm|kvm_amd|irqbypass):|kvm|svm_/],
  ['vhost_blk', /^vhost_blk:/],
  ['vhost core', /^vhost(_iotlb)?:|^vhost_task_fn/],
  ['null_blk', /^null_blk:/],
  ['page pinning', /gup|pin_user|unpin|iov_iter|folio|_grab|bio_(set|check|release)_pages|pages_dirty|page_state/],
  [
    'block layer',
    /^_*(bio|blk|bvec|bd_|bdev|part_|rq_|sbitmap|submit_bio|dio|mempool|elv_|io_schedule|update_io_ticks)/,
  ],
  ['eventfd', /eventfd|__wake_up|_poll_wakeup/],
  [
    'scheduler',
    /sched(?!ule_work)|switch|(en|de)queue_(task|entit)|pick_|update_(curr|load|rq|cfs|deadline|entity)|_(fair|se|entity|entities)$/,
  ],
  [
    'scheduler',
    /vruntime|psi_|ttwu|try_to_wake|wake|cfs|_task(s?)$|^set_next|^put_prev|mm_cid|resched|avg|rseq|dl_server|idle|min_slice/,
  ],
  [
    'system calls',
    /sys|SYSCALL|vfs_|_fget|fd(get|put)|rw_verify|fsnotify|security_|aa_|apparmor|(exit|return)_to_user|swapgs/,
  ],
  ['memory allocator', /kmalloc|kfree|kmem_cache|slab|alloc_|objcg/],
  ['user copies', /copy_(to|from)|_user(_|$)|rep_movs|memcpy|memset/],
  ['locks and rcu', /spin|mutex|rcu|lock|wait_intr|llist|softirq|refcount|percpu_ref|__list_/],
  ['time and interrupts', /ktime|clock|tsc|timer|tick|time|irq|apic|idtentry/],
]

export function groupOf(name: string): string {
  return functionGroups.find(([, pattern]) => pattern.test(name))?.[0] ?? 'other'
}
