// SPDX-License-Identifier: GPL-2.0-or-later

import { QmpCommandError, type WaitOptions } from '../qmp/index.ts'
import { listChildren } from './qom.ts'
import type { Vm } from './vm.ts'

/**
 * Whether a guest's driver drives a virtio device: it has set DRIVER_OK (virtio 1.3, section 2.1). Undefined when this
 * QEMU doesn't say. The path is that of the device or of its PCI wrapper.
 */
export async function isDriven(vm: Vm, path: string, options: WaitOptions = {}): Promise<boolean | undefined> {
  const inner = (await listChildren(vm, path, options)).find((child) => child.name === 'virtio-backend')
  try {
    const info = await vm.qmp.execute('x-query-virtio-status', { path: inner?.path ?? path }, options)
    return info.status.statuses.some((status) => status.startsWith('VIRTIO_CONFIG_S_DRIVER_OK'))
  } catch (error) {
    if (error instanceof QmpCommandError) return undefined
    throw error
  }
}
