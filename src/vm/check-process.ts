// SPDX-License-Identifier: GPL-2.0-or-later
// What may keep a QEMU from opening /dev/vhost-blk. None of it can be tried from outside, and a disk that QEMU serves needs
// none of it, so these are warnings.

import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Check, ok, warn } from '../host/check.ts'
import { DEVICE_PATH } from '../host/vhost-blk.ts'

/** Where things are; tests have their own. */
export interface Places {
  proc: string
  device: string
  qemuConf: string
  selinuxEnforce: string
}

const places: Places = {
  proc: '/proc',
  device: DEVICE_PATH,
  qemuConf: '/etc/libvirt/qemu.conf',
  selinuxEnforce: '/sys/fs/selinux/enforce',
}

/** With which --pass-fd a QEMU needs to open nothing. */
const passFd = 'have vblk open the files: vblk attach … --pass-fd'

/** A disk takes its image, the device, and two descriptors a queue. */
const enoughFiles = 64

/**
 * @param vm - the VM's name, for messages
 * @param pid - its QEMU
 */
export async function checkProcess(vm: string, pid: number, where: Places = places): Promise<Check[]> {
  const folder = join(where.proc, String(pid))
  return [
    await checkUser(vm, folder, where),
    await checkCgroup(vm, folder, where),
    await checkConfinement(vm, folder, where),
    await checkFiles(vm, pid, folder),
  ]
}

async function checkUser(vm: string, folder: string, { device }: Places): Promise<Check> {
  const name = 'vm-user'
  const node = await stat(device).catch(() => undefined)
  if (node === undefined) return warn(name, `${vm}: unknown until ${device} exists`, 'vblk module load')
  const status = await readText(join(folder, 'status'))
  // The last of the four is the one by which files are opened (proc(5)).
  const id = (field: string) => Number(new RegExp(`^${field}:(?:\\s+\\d+){3}\\s+(\\d+)$`, 'm').exec(status)?.[1])
  const [uid, gid] = [id('Uid'), id('Gid')]
  if (Number.isNaN(uid) || Number.isNaN(gid)) return unreadable(name, vm)
  const groups = (/^Groups:(.*)$/m.exec(status)?.[1] ?? '').trim().split(/\s+/).map(Number)
  if (uid === 0) return ok(name, `${vm}: its QEMU runs as root`)
  const bits = uid === node.uid ? node.mode >> 6 : [gid, ...groups].includes(node.gid) ? node.mode >> 3 : node.mode
  if ((bits & 0o6) === 0o6) return ok(name, `${vm}: user ${uid} of its QEMU may open ${device}`)
  return warn(name, `${vm}: user ${uid} of its QEMU may not open ${device} (group ${node.gid})`, passFd)
}

/** libvirt's control groups let a QEMU open the devices of a list only; the kernel has no way to read that back. */
async function checkCgroup(vm: string, folder: string, { qemuConf, device }: Places): Promise<Check> {
  const name = 'vm-cgroup'
  const cgroups = await readText(join(folder, 'cgroup'))
  if (cgroups === '') return unreadable(name, vm)
  if (!/\/machine-qemu|\/machine\/qemu-/.test(cgroups)) return ok(name, `${vm}: not in a device policy of libvirt`)
  const conf = (await readText(qemuConf)).replace(/^\s*#.*$/gm, '')
  const list = /^\s*cgroup_device_acl\s*=\s*\[([^\]]*)\]/m.exec(conf)?.[1] ?? ''
  const controllers = /^\s*cgroup_controllers\s*=\s*\[([^\]]*)\]/m.exec(conf)?.[1]
  const isFree = list.includes(`"${device}"`) || (controllers !== undefined && !controllers.includes('"devices"'))
  if (isFree) return ok(name, `${vm}: ${qemuConf} lets it open ${device}`)
  return warn(
    name,
    `${vm}: cgroup_device_acl in ${qemuConf} does not list ${device}, so libvirt's VMs may not open it`,
    passFd,
  )
}

/** A descriptor that is passed is judged by AppArmor and SELinux like one that is opened, so only their rules help. */
async function checkConfinement(vm: string, folder: string, { selinuxEnforce, device }: Places): Promise<Check> {
  const name = 'vm-confinement'
  const label = (await readText(join(folder, 'attr/current'))).replaceAll('\0', '')
  const profile = /^(.*) \(enforce\)$/.exec(label)?.[1]
  if (profile !== undefined) {
    return warn(
      name,
      `${vm}: AppArmor confines it (${profile})`,
      `see that its profile has "${device} rw,": /etc/apparmor.d/local/abstractions/libvirt-qemu for libvirt's`,
    )
  }
  if (label.includes(':') && (await readText(selinuxEnforce)) === '1') {
    return warn(name, `${vm}: SELinux confines it (${label})`, `see that its type may open ${device}: ausearch -m avc`)
  }
  return ok(name, `${vm}: neither AppArmor nor SELinux confines it`)
}

async function checkFiles(vm: string, pid: number, folder: string): Promise<Check> {
  const name = 'vm-files'
  const limit = /^Max open files\s+(\d+)/m.exec(await readText(join(folder, 'limits')))?.[1]
  const open = await readdir(join(folder, 'fd')).catch(() => undefined)
  if (limit === undefined || open === undefined) return unreadable(name, vm)
  const message = `${vm}: its QEMU has ${open.length} files open, of at most ${limit}`
  if (Number(limit) - open.length >= enoughFiles) return ok(name, message)
  return warn(name, message, `prlimit --pid ${pid} --nofile=${Number(limit) * 4}`)
}

function unreadable(name: string, vm: string): Check {
  return warn(name, `${vm}: its process can't be looked at`, 'run vblk as root')
}

async function readText(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).trim()
}
