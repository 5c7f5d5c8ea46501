// SPDX-License-Identifier: GPL-2.0-or-later
// Debian's libvirt, for the tests that talk to it: a tree to be laid over the root (VBLK_OVERLAY of script/in-root). script/setup
// doesn't make it; a test that wants it asks for it.
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openArchive } from './apt.ts'
import { cache, root } from './paths.ts'
import { run } from './run.ts'
import type { Stage } from './stage.ts'
import { release, rootStage } from './stages.ts'

const dir = join(cache, 'libvirt')

export const libvirtTree = join(dir, 'tree')

export const libvirtStage: Stage = {
  name: 'libvirt',
  title: 'libvirt with its QEMU driver',
  needs: [rootStage],
  inputs: ['test/lab/setup/libvirt.ts'],
  key: () => release,
  outputs: [libvirtTree],
  async make() {
    await rm(dir, { recursive: true, force: true })
    const archive = await openArchive(release, join(dir, 'apt'))
    if (!archive) throw new Error(`the Debian archive has no ${release}`)
    const installed = new Set(
      (await readdir(join(root, 'var/lib/dpkg/info'))).map((name) => name.replace(/(:amd64)?\.list$/, '')),
    )
    // Its libraries; not the services beside it (D-Bus, cron, PAM sessions), which it does without.
    const names = ['libvirt-daemon', 'libvirt-daemon-driver-qemu', 'libvirt-clients']
    const wanted = await archive.closure(names, /^lib(?!pam|newt|slang|debian-installer|rc1|einfo|bg2)/)
    const missing = wanted.filter((name) => !installed.has(name))
    for (const deb of await archive.download(missing, join(dir, 'debs')))
      await run('dpkg-deb', ['--extract', deb, libvirtTree])
    for (const done of ['apt', 'debs']) await rm(join(dir, done), { recursive: true })
  },
}
