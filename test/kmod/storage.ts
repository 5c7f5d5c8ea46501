// SPDX-License-Identifier: GPL-2.0-or-later
// Storage of other kinds than null_blk (devices.ts) in the lab's machine, for the module to work on.
import type { Lab } from '../lab/lab.ts'

/** Runs a shell script in L1, which must succeed; its arguments are `$1`, `$2`… */
export async function script(lab: Lab, text: string, ...args: (string | number)[]): Promise<string> {
  return (await lab.check(['sh', '-euc', text, 'sh', ...args.map(String)])).trim()
}

/** Waits until one of these paths is a block device; returns it. */
async function awaitDevice(lab: Lab, ...paths: string[]): Promise<string> {
  const found = await script(
    lab,
    'for i in $(seq 100); do for f in "$@"; do if [ -b "$f" ]; then echo "$f"; exit; fi; done; sleep 0.05; done',
    ...paths,
  )
  if (!found) throw new Error(`none of ${paths.join(', ')} appeared`)
  return found
}

export async function removeNullBlk(lab: Lab, name: string): Promise<void> {
  await script(lab, 'rmdir "/sys/kernel/config/nullb/$1"', name)
}

/** A SCSI disk of the kernel's own making, by module parameters (`dev_size_mb`, `sector_size`, `delay`…). */
export async function makeScsiDebug(lab: Lab, parameters: Record<string, number>): Promise<string> {
  const args = Object.entries(parameters).map(([key, value]) => `${key}=${value}`)
  await lab.check(['modprobe', 'sd_mod'])
  await lab.check(['modprobe', 'scsi_debug', ...args])
  const name = await script(
    lab,
    `for i in $(seq 100); do
       for disk in /sys/bus/pseudo/drivers/scsi_debug/adapter0/host*/target*/*/block/*; do
         if [ -b "/dev/\${disk##*/}" ]; then echo "\${disk##*/}"; exit; fi
       done
       sleep 0.05
     done`,
  )
  return await awaitDevice(lab, `/dev/${name}`)
}

/**
 * An NVMe disk: the kernel's own target on that file, connected to its own host. By the page cache: the target promises
 * its host to take buffers at any 4 bytes, and hands them on to a backing device that may not.
 */
export async function connectNvme(lab: Lab, name: string, file: string): Promise<string> {
  await lab.check(['modprobe', '-a', 'nvmet', 'nvme-loop'])
  const controller = await script(
    lab,
    `base=/sys/kernel/config/nvmet
     mkdir "$base/subsystems/$1"
     echo 1 >"$base/subsystems/$1/attr_allow_any_host"
     mkdir "$base/subsystems/$1/namespaces/1"
     echo "$2" >"$base/subsystems/$1/namespaces/1/device_path"
     echo 1 >"$base/subsystems/$1/namespaces/1/buffered_io"
     echo 1 >"$base/subsystems/$1/namespaces/1/enable"
     [ -d "$base/ports/1" ] || { mkdir "$base/ports/1"; echo loop >"$base/ports/1/addr_trtype"; }
     ln -s "$base/subsystems/$1" "$base/ports/1/subsystems/$1"
     exec 3<>/dev/nvme-fabrics
     echo "transport=loop,nqn=$1" >&3
     sed 's/.*instance=\\([0-9]*\\).*/\\1/' <&3`,
    name,
    file,
  )
  return await awaitDevice(lab, `/dev/nvme${controller}n1`)
}

export async function disconnectNvme(lab: Lab, device: string): Promise<void> {
  const controller = device.replace(/^\/dev\/(nvme\d+)n1$/, '$1')
  await script(lab, 'echo 1 >"/sys/class/nvme/$1/delete_controller"', controller)
}

export async function removeNvmeTarget(lab: Lab, name: string): Promise<void> {
  await script(
    lab,
    `base=/sys/kernel/config/nvmet
     rm "$base/ports/1/subsystems/$1"
     rmdir "$base/subsystems/$1/namespaces/1" "$base/subsystems/$1"`,
    name,
  )
}

/** A loop device on that file. */
export async function attachLoop(lab: Lab, file: string, options: string[] = []): Promise<string> {
  return (await lab.check(['losetup', '--find', '--show', ...options, file])).trim()
}

export async function detachLoop(lab: Lab, device: string): Promise<void> {
  await lab.check(['losetup', '--detach', device])
}

/** A device-mapper device of that table, one target a line. */
export async function makeDm(lab: Lab, name: string, table: string): Promise<string> {
  await lab.check(['dmsetup', 'create', '--noudevsync', name], { stdin: table })
  await lab.check(['dmsetup', 'mknodes', name])
  return await awaitDevice(lab, `/dev/mapper/${name}`)
}

/** Puts another table in place, with requests in flight. */
export async function reloadDm(lab: Lab, name: string, table: string): Promise<void> {
  await lab.check(['dmsetup', 'load', name], { stdin: table })
  await lab.check(['dmsetup', 'resume', '--noudevsync', name])
}

export async function removeDm(lab: Lab, name: string): Promise<void> {
  await lab.check(['dmsetup', 'remove', '--noudevsync', '--retry', name])
  await lab.exec(['dmsetup', 'mknodes'])
}

/** Of a block device, in sectors of 512 bytes. */
export async function sectorsOf(lab: Lab, device: string): Promise<number> {
  return Number(await lab.check(['blockdev', '--getsz', device]))
}

/** Makes a file system and mounts it. */
export async function mountNew(lab: Lab, type: string, device: string, at: string): Promise<void> {
  const quiet = { ext4: ['-q', '-F'], xfs: ['-q', '-f'], btrfs: ['-q', '-f'] }[type]
  if (!quiet) throw new Error(`how is ${type} made?`)
  await lab.check([`mkfs.${type}`, ...quiet, device])
  await lab.check(['mkdir', '-p', at])
  await lab.check(['mount', '-t', type, device, at])
}
