// SPDX-License-Identifier: GPL-2.0-or-later

/** How many bytes of a file's beginning detectFormat wants to see. */
export const headerBytes = 512

interface Magic {
  format: string
  offset: number
  bytes: Buffer
}

// The magic numbers that QEMU's own probing goes by (the bdrv_probe functions in QEMU's block/).
const magics: Magic[] = [
  { format: 'qcow2', offset: 0, bytes: Buffer.from('QFI\xfb', 'latin1') },
  { format: 'qed', offset: 0, bytes: Buffer.from('QED\0', 'latin1') },
  { format: 'vmdk', offset: 0, bytes: Buffer.from('KDMV', 'latin1') },
  { format: 'vmdk', offset: 0, bytes: Buffer.from('COWD', 'latin1') },
  { format: 'vmdk', offset: 0, bytes: Buffer.from('# Disk DescriptorFile', 'latin1') },
  { format: 'vdi', offset: 64, bytes: Buffer.from([0x7f, 0x10, 0xda, 0xbe]) },
  { format: 'vhdx', offset: 0, bytes: Buffer.from('vhdxfile', 'latin1') },
  { format: 'vpc', offset: 0, bytes: Buffer.from('conectix', 'latin1') },
  { format: 'luks', offset: 0, bytes: Buffer.from('LUKS\xba\xbe', 'latin1') },
  { format: 'parallels', offset: 0, bytes: Buffer.from('WithoutFreeSpace', 'latin1') },
  { format: 'parallels', offset: 0, bytes: Buffer.from('WithouFreSpacExt', 'latin1') },
]

/** The image format whose magic number a header carries; undefined for what may be raw. */
export function detectFormat(header: Buffer): string | undefined {
  return magics.find(({ offset, bytes }) => header.subarray(offset, offset + bytes.length).equals(bytes))?.format
}
