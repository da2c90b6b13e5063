// Direct messages, /fednode/direct/1.0.0, written from docs/wire.md.

import { byteStream } from '@libp2p/utils'

export const PROTOCOL = '/fednode/direct/1.0.0'

const HELLO = 1
const MESSAGE = 2
const ACK = 3
const STATUS = ['accepted', 'inbox full', 'too large', 'rate limited', 'refused']
// Larger than anything that the tests send.
const MAX_BODY = 1 << 20
// As many answers are remembered as a node may have unanswered messages.
const REMEMBERED = 64

const session = crypto.getRandomValues(new BigUint64Array(1))[0] | 1n

function frame (kind, ...body) {
  const head = Buffer.alloc(5)
  head.writeUInt8(kind, 0)
  head.writeUInt32BE(body.reduce((sum, part) => sum + part.length, 0), 1)
  return Buffer.concat([head, ...body])
}

function u64 (number) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(number)
  return bytes
}

function message (sequence, contentType, data) {
  const type = Buffer.from(contentType, 'ascii')
  return frame(MESSAGE, u64(sequence), Buffer.from([type.length]), type, data)
}

async function read (bytes) {
  const head = Buffer.from((await bytes.read({ bytes: 5 })).subarray())
  const [kind, length] = [head.readUInt8(0), head.readUInt32BE(1)]
  if (length < 8 || length > MAX_BODY) throw new Error(`a frame of kind ${kind} with ${length} bytes`)
  const body = Buffer.from((await bytes.read({ bytes: length })).subarray())
  const number = body.readBigUInt64BE(0)
  switch (kind) {
    case HELLO: return { kind, session: number }
    case MESSAGE: {
      const end = 9 + body[8]
      const contentType = body.subarray(9, end).toString('ascii')
      return { kind, sequence: number, contentType, data: body.subarray(end) }
    }
    case ACK: return { kind, sequence: number, status: STATUS[body[8]] }
    default: throw new Error(`unknown kind of frame ${kind}`)
  }
}

async function readKind (bytes, kind) {
  const got = await read(bytes)
  if (got.kind !== kind) throw new Error(`a frame of kind ${got.kind} where ${kind} was due`)
  return got
}

// The receiving side: one stream after another, whatever peer and connection it comes from.
export class Inbox {
  // The answers given to each peer's sessions.
  #answered = new Map()

  constructor (deliver) {
    this.deliver = deliver
  }

  async serve (stream, peer) {
    const bytes = byteStream(stream)
    const theirs = await readKind(bytes, HELLO)
    await bytes.write(frame(HELLO, u64(session)))
    const key = `${peer} ${theirs.session}`
    if (!this.#answered.has(key)) this.#answered.set(key, new Map())
    const answered = this.#answered.get(key)
    while (true) {
      const { sequence, contentType, data } = await readKind(bytes, MESSAGE)
      if (!answered.has(sequence)) {
        this.deliver(peer, contentType, data.toString())
        answered.set(sequence, 0)
        if (answered.size > REMEMBERED) answered.delete(answered.keys().next().value)
      }
      await bytes.write(frame(ACK, u64(sequence), Buffer.from([answered.get(sequence)])))
    }
  }
}

// The sending side of one connection: messages go out as they are given, without waiting for answers.
export class Outbox {
  static #sequence = 0n
  #waiting = new Map()
  #bytes
  #last
  #broken

  static async open (connection) {
    const outbox = new Outbox()
    outbox.#bytes = byteStream(await connection.newStream(PROTOCOL))
    await outbox.#bytes.write(frame(HELLO, u64(session)))
    await readKind(outbox.#bytes, HELLO)
    outbox.#acks().catch((error) => {
      outbox.#broken = error
      for (const { reject } of outbox.#waiting.values()) reject(error)
    })
    return outbox
  }

  // Sends a message, and gives the status of its answer.
  async send (contentType, text) {
    Outbox.#sequence += 1n
    this.#last = { sequence: Outbox.#sequence, bytes: message(Outbox.#sequence, contentType, Buffer.from(text)) }
    return await this.repeat()
  }

  // Sends the last message once more, as after a connection that broke before its answer came.
  async repeat () {
    if (this.#broken != null) throw this.#broken
    const { sequence, bytes } = this.#last
    const answer = new Promise((resolve, reject) => this.#waiting.set(sequence, { resolve, reject }))
    const [status] = await Promise.all([answer, this.#bytes.write(bytes)])
    return status
  }

  async #acks () {
    while (true) {
      const { sequence, status } = await readKind(this.#bytes, ACK)
      this.#waiting.get(sequence)?.resolve(status)
      this.#waiting.delete(sequence)
    }
  }
}
