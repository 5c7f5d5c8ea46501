// SPDX-License-Identifier: GPL-2.0-or-later

import { readdir } from 'node:fs/promises'
import { afterEach, describe, expect, test } from '@jest/globals'
import {
  type ConnectOptions,
  QmpClient,
  QmpCommandError,
  QmpConnectionLostError,
  QmpEventOverflowError,
  QmpGreetingError,
  QmpInterruptedError,
  QmpNegotiationError,
  QmpProtocolError,
  QmpStateError,
  QmpTimeoutError,
} from '../../../src/qmp/index.ts'
import { answerAll, FakeMonitor, greeting, type Peer, refuse, reply, type Script } from './fake-monitor.ts'

let monitor: FakeMonitor | undefined
let client: QmpClient | undefined

afterEach(async () => {
  await client?.close()
  await monitor?.stop()
  client = monitor = undefined
})

async function serve(script: Script = answerAll(), greet?: string | null): Promise<FakeMonitor> {
  monitor = await FakeMonitor.start(script, greet)
  return monitor
}

async function connected(
  scripts: Record<string, Script> = {},
  options: Partial<ConnectOptions> = {},
): Promise<QmpClient> {
  const { path } = await serve(answerAll(scripts))
  client = await QmpClient.connect({ path, ...options })
  return client
}

const peer = (): Peer => {
  const [first] = monitor?.peers ?? []
  if (first === undefined) throw new Error('nobody has connected')
  return first
}

const openFiles = async () => (await readdir('/proc/self/fd')).length

describe('connecting', () => {
  test('greets, negotiates, and goes through the runstates', async () => {
    const { path } = await serve()
    client = new QmpClient({ path })
    expect(client.runstate).toBe('idle')
    const connecting = client.connect()
    expect(client.runstate).toBe('connecting')
    await connecting
    expect(client.runstate).toBe('running')
    expect(client.version.qemu).toEqual({ major: 10, minor: 0, micro: 13 })
    const closing = client.close()
    expect(client.runstate).toBe('disconnecting')
    await closing
    expect(client.runstate).toBe('idle')
  })

  test('takes a greeting that comes in pieces, with events behind it', async () => {
    await serve(answerAll(), null)
    const connecting = QmpClient.connect({ path: monitor?.path ?? '' })
    await until(() => monitor?.peers.length === 1)
    peer().write(greeting.slice(0, 50))
    await new Promise((resolve) => setTimeout(resolve, 20))
    peer().write(`${greeting.slice(50)}\r\n{"event":"STOP","timestamp":{"seconds":1,"microseconds":2}}\r\n`)
    client = await connecting
    expect(client.runstate).toBe('running')
  })

  test.each([
    ['garbage', 'SSH-2.0-OpenSSH_9.2\r\n'],
    ['JSON of another service', '{"hello":"world"}\n'],
    ['a JSON array', '[]\n'],
    ['a greeting without a version', '{"QMP":{}}\n'],
    ['a greeting with nonsense for a version', '{"QMP":{"version":{"qemu":{"major":"x"},"package":""}}}\n'],
    ['bytes that are not text', Buffer.from([0xff, 0xfe, 0x00, 0x0a]).toString('latin1')],
  ])('says that %s is not QMP', async (_what, bytes) => {
    const { path } = await serve(answerAll(), bytes)
    const error = await failure(QmpClient.connect({ path }))
    expect(error).toBeInstanceOf(QmpGreetingError)
    expect(error).toMatchObject({ code: 'NOT_QMP', exitCode: 3 })
    expect(error.message).toContain(`${path} is not a QMP socket`)
    expect(error.message).toMatch(/^[\x20-\x7e…]+$/)
  })

  test('says that a server which closes at once is not QMP', async () => {
    await serve(answerAll(), null)
    const connecting = failure(QmpClient.connect({ path: monitor?.path ?? '' }))
    await until(() => monitor?.peers.length === 1)
    peer().socket.end()
    expect(await connecting).toBeInstanceOf(QmpGreetingError)
  })

  test('says that a server which takes the connection and stays silent is not QMP', async () => {
    const { path } = await serve(answerAll(), null)
    const error = await failure(QmpClient.connect({ path, timeoutMs: 700 }))
    expect(error).toBeInstanceOf(QmpGreetingError)
    expect(error.message).toContain('sent no greeting')
  })

  test('gives up a greeting without end before it fills the memory', async () => {
    const { path } = await serve(answerAll(), 'x'.repeat(5000))
    const error = await failure(QmpClient.connect({ path, maxLineBytes: 1000 }))
    expect(error).toBeInstanceOf(QmpGreetingError)
    expect(error.message).toContain('longer than 1000 bytes')
  })

  test('passes on why a negotiation failed', async () => {
    const { path } = await serve((command, to) => refuse(to, command, 'not today', 'CommandNotFound'))
    const error = await failure(QmpClient.connect({ path }))
    expect(error).toBeInstanceOf(QmpNegotiationError)
    expect(error.cause).toBeInstanceOf(QmpCommandError)
  })

  test('ends when the signal is aborted, and leaves no descriptor behind', async () => {
    const { path } = await serve(answerAll(), null)
    const before = await openFiles()
    const abort = new AbortController()
    const connecting = failure(QmpClient.connect({ path, signal: abort.signal }))
    await until(() => monitor?.peers.length === 1)
    abort.abort(new Error('stop'))
    const error = await connecting
    expect(error).toBeInstanceOf(QmpInterruptedError)
    expect(error).toMatchObject({ exitCode: 130, cause: abort.signal.reason })
    peer().socket.destroy()
    await until(async () => (await openFiles()) <= before)
  })
})

describe('commands', () => {
  test('get their own replies, in whatever order they come', async () => {
    const waiting: (() => void)[] = []
    await connected({
      'qom-get': (command, to) => {
        waiting.unshift(() => reply(to, command, command.arguments.property))
        if (waiting.length === 3) for (const answer of waiting) answer()
      },
    })
    const get = (property: string) => client?.execute('qom-get', { path: '/', property })
    expect(await Promise.all([get('a'), get('b'), get('c')])).toEqual(['a', 'b', 'c'])
  })

  test('keep class, description, request and reply of an error', async () => {
    await connected({ device_del: (command, to) => refuse(to, command, "Device 'x' not found", 'DeviceNotFound') })
    const error = await failure(client?.execute('device_del', { id: 'x' }))
    expect(error).toBeInstanceOf(QmpCommandError)
    expect(error).toMatchObject({
      errorClass: 'DeviceNotFound',
      desc: "Device 'x' not found",
      request: { execute: 'device_del', arguments: { id: 'x' } },
      reply: { error: { class: 'DeviceNotFound' } },
      exitCode: 5,
    })
  })

  test('take a reply of megabytes that comes in many pieces', async () => {
    const big = 'é'.repeat(4 * 1024 * 1024)
    await connected({
      'query-name': (command, to) => {
        const bytes = Buffer.from(`${JSON.stringify({ return: { name: big }, id: command.id })}\r\n`)
        for (let at = 0; at < bytes.length; at += 65_537) to.write(bytes.subarray(at, at + 65_537))
      },
    })
    expect((await client?.execute('query-name'))?.name).toBe(big)
  })

  test('keep integers exact in both directions', async () => {
    await connected({
      'qom-get': (command, to) => to.send(`{"return": 18446744073709551615, "id": "${command.id}"}`),
      'qom-set': (command, to) => reply(to, command),
    })
    expect(await client?.execute('qom-get', { path: '/', property: 'size' })).toBe(18446744073709551615n)
    let sent = ''
    peer().socket.on('data', (chunk) => {
      sent += chunk
    })
    await client?.execute('qom-set', { path: '/', property: 'size', value: 9007199254740993n })
    expect(sent).toContain('"value":9007199254740993}')
  })

  test('time out, and the late reply does no harm', async () => {
    const late: (() => void)[] = []
    await connected({ stop: (command, to) => late.push(() => reply(to, command)) })
    const error = await failure(client?.execute('stop', {}, { timeoutMs: 30 }))
    expect(error).toBeInstanceOf(QmpTimeoutError)
    expect(error.message).toContain('stop within 0.03 s')
    for (const answer of late) answer()
    await expect(client?.execute('cont')).resolves.toEqual({})
  })

  test('are not sent when the signal is aborted already', async () => {
    await connected()
    await expect(client?.execute('cont', {}, { signal: AbortSignal.abort() })).rejects.toBeInstanceOf(
      QmpInterruptedError,
    )
    await client?.execute('query-name')
    expect(monitor?.commands).toEqual(['query-name'])
  })

  test('fail together when QEMU dies, and so does every later one', async () => {
    await connected({ stop: () => {}, cont: (_command, to) => to.socket.destroy() })
    const stopping = failure(client?.execute('stop'))
    expect(await failure(client?.execute('cont'))).toBeInstanceOf(QmpConnectionLostError)
    expect(await stopping).toBeInstanceOf(QmpConnectionLostError)
    expect(client?.runstate).toBe('idle')
    expect(await failure(client?.execute('query-name'))).toBeInstanceOf(QmpConnectionLostError)
    expect(() => client?.events()).toThrow(QmpConnectionLostError)
  })

  test.each([
    ['garbage', 'not JSON\n'],
    ['half of a reply', '{"return": {}\n'],
    ['a reply that nobody asked for', '{"return": {}, "id": "vblk-99"}\n'],
    ['a reply without an id', '{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n'],
    ['a reply with an id of another type', '{"return": {}, "id": 1}\n'],
    ['a number', '1\n'],
    ['null', 'null\n'],
    ['neither return nor error', '{"id": "vblk-2"}\n'],
    ['an error without a class', '{"error": {}, "id": "vblk-2"}\n'],
  ])('fail on %s from the peer', async (_what, bytes) => {
    await connected({ stop: (_command, to) => to.write(bytes) })
    const error = await failure(client?.execute('stop'))
    expect(error).toBeInstanceOf(QmpProtocolError)
    await client?.close()
    expect(client?.runstate).toBe('idle')
  })

  test('fail on a line that is too long', async () => {
    await connected({ stop: (_command, to) => to.write('y'.repeat(3000)) }, { maxLineBytes: 2000 })
    expect((await failure(client?.execute('stop'))).message).toContain('longer than 2000 bytes')
  })

  test('are refused outside the running state', async () => {
    const { path } = await serve()
    client = new QmpClient({ path })
    await expect(client.execute('stop')).rejects.toBeInstanceOf(QmpStateError)
    expect(() => client?.events()).toThrow(QmpStateError)
    await client.connect()
    await expect(client.connect()).rejects.toBeInstanceOf(QmpStateError)
    await client.close()
    await client.close()
    await expect(client.execute('stop')).rejects.toBeInstanceOf(QmpStateError)
  })

  test('show their traffic to a trace', async () => {
    const lines: string[] = []
    await connected({}, { trace: (direction, line) => lines.push(`${direction} ${line}`) })
    await client?.execute('query-name')
    expect(lines).toEqual([
      `receive ${greeting}`,
      expect.stringContaining('send {"execute":"qmp_capabilities"'),
      expect.stringContaining('receive {"return"'),
      expect.stringContaining('send {"execute":"query-name"'),
      expect.stringContaining('receive {"return"'),
    ])
  })
})

describe('events', () => {
  const event = (name: string, data: object = {}) => ({
    event: name,
    data,
    timestamp: { seconds: 1, microseconds: 0 },
  })

  test('that come before the reply are not missed', async () => {
    await connected({
      device_del: (command, to) => {
        to.send(event('DEVICE_DELETED', { device: 'd', path: '/machine/peripheral/d' }))
        reply(to, command)
      },
    })
    const events = client?.events(({ event: name }) => name === 'DEVICE_DELETED')
    await client?.execute('device_del', { id: 'd' })
    expect(await events?.next({ timeoutMs: 0 })).toMatchObject({ data: { device: 'd' } })
  })

  test('reach every subscription whose filter takes them, until it is closed', async () => {
    await connected()
    const all = client?.events()
    const stops = client?.events(({ event: name }) => name === 'STOP')
    monitor?.broadcast(event('STOP'))
    monitor?.broadcast(event('RESUME'))
    await client?.execute('query-name')
    stops?.close()
    monitor?.broadcast(event('STOP'))
    await client?.execute('query-name')
    expect([(await all?.next())?.event, (await all?.next())?.event, (await all?.next())?.event]).toEqual([
      'STOP',
      'RESUME',
      'STOP',
    ])
    expect((await stops?.next())?.event).toBe('STOP')
    expect(await stops?.next()).toBeUndefined()
  })

  test('can be awaited with a time limit, and the next reader gets what the last one gave up', async () => {
    await connected()
    const events = client?.events()
    await expect(events?.next({ timeoutMs: 20 })).rejects.toBeInstanceOf(QmpTimeoutError)
    const abort = new AbortController()
    const waiting = failure(events?.next({ signal: abort.signal }))
    abort.abort()
    expect(await waiting).toBeInstanceOf(QmpInterruptedError)
    const next = events?.next()
    monitor?.broadcast(event('STOP'))
    expect((await next)?.event).toBe('STOP')
  })

  test('overflow aloud', async () => {
    await connected()
    const events = client?.events(() => true, 2)
    for (const name of ['STOP', 'RESUME', 'STOP']) monitor?.broadcast(event(name))
    await client?.execute('query-name')
    await events?.next()
    await events?.next()
    await expect(events?.next()).rejects.toBeInstanceOf(QmpEventOverflowError)
  })

  test('end with the loss of the connection, after what came before it', async () => {
    await connected()
    const events = client?.events()
    monitor?.broadcast(event('SHUTDOWN', { guest: false, reason: 'host-signal' }))
    await client?.execute('query-name')
    peer().socket.destroy()
    const seen: string[] = []
    const reading = (async () => {
      for await (const { event: name } of events ?? []) seen.push(name)
    })()
    await expect(reading).rejects.toBeInstanceOf(QmpConnectionLostError)
    expect(seen).toEqual(['SHUTDOWN'])
  })

  test('end quietly when the client closes', async () => {
    await connected()
    const next = client?.events().next()
    await client?.close()
    expect(await next).toBeUndefined()
  })

  test('without data have an empty object for it', async () => {
    await connected()
    const events = client?.events()
    monitor?.broadcast('{"event": "STOP"}')
    expect(await events?.next()).toMatchObject({ event: 'STOP', data: {} })
  })
})

async function failure(promise: Promise<unknown> | undefined): Promise<Error> {
  try {
    await promise
  } catch (error) {
    return error as Error
  }
  throw new Error('it did not fail')
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5000
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error('it did not happen within 5 s')
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
