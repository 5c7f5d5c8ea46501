// SPDX-License-Identifier: GPL-2.0-or-later
// The peer: a VM is moved by the QMP commands that it takes, and no more; as with vblk the destination does not start by itself, so
// that it could be looked at before. Runs in L1, by `node`, with two monitors and the
// destination's migration socket as arguments; prints the milliseconds from its first command to a destination that runs.
import { createConnection } from 'node:net'
import { createInterface } from 'node:readline'

/** A monitor: commands one after another, and the events that it is asked to wait for. */
async function connect(path) {
  const socket = createConnection(path)
  const seen = []
  let answer = () => {}
  let heard = () => {}
  createInterface({ input: socket }).on('line', (line) => {
    const message = JSON.parse(line)
    if (message.event) {
      seen.push(message)
      heard()
    } else if (!message.QMP) answer(message)
  })
  const ask = async (execute, parameters = {}) => {
    const reply = new Promise((resolve) => {
      answer = resolve
    })
    socket.write(`${JSON.stringify({ execute, arguments: parameters })}\n`)
    const { error } = await reply
    if (error) throw new Error(`${execute}: ${error.desc}`)
  }
  const until = async (name, status) => {
    while (!seen.some(({ event, data }) => event === name && data?.status === status))
      await new Promise((resolve) => {
        heard = resolve
      })
  }
  await ask('qmp_capabilities')
  return { ask, until, close: () => socket.destroy() }
}

const [sourcePath, destinationPath, migration] = process.argv.slice(2)
const source = await connect(sourcePath)
const destination = await connect(destinationPath)
const start = process.hrtime.bigint()
const capabilities = [{ capability: 'events', state: true }]
await source.ask('migrate-set-capabilities', { capabilities })
await destination.ask('migrate-set-capabilities', { capabilities })
// In a QEMU that waits for a VM it only says that the VM is not to start.
await destination.ask('stop')
await destination.ask('migrate-incoming', { uri: `unix:${migration}` })
await source.ask('migrate', { uri: `unix:${migration}` })
await source.until('MIGRATION', 'completed')
await destination.until('MIGRATION', 'completed')
await destination.ask('cont')
await destination.until('RESUME')
process.stdout.write(`${Number(process.hrtime.bigint() - start) / 1e6}\n`)
source.close()
destination.close()
