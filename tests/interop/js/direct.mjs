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

// The sending side towards one peer: messages go out as they are given, without waiting for answers, and what has no answer
// when a stream breaks goes out again on the next one.
export class Outbox {
  static #sequence = 0n
  // By number, and so in order.
  #waiting = new Map()
  #theirs
  #bytes
  #last

  // `connect` gives a new stream to the peer as soon as there can be one.
  constructor (connect) {
    this.#run(connect)
  }

  // Sends a message, and gives the status of its answer.
  async send (contentType, text) {
    Outbox.#sequence += 1n
    const sequence = Outbox.#sequence
    this.#last = { sequence, parcel: message(sequence, contentType, Buffer.from(text)) }
    return await this.repeat()
  }

  // Sends the last message once more, although its answer came.
  async repeat () {
    const { sequence, parcel } = this.#last
    return await new Promise((resolve, reject) => {
      this.#waiting.set(sequence, { parcel, resolve, reject })
      // A stream that is broken is noticed where its answers are read.
      this.#bytes?.write(parcel).catch(() => {})
    })
  }

  async #run (connect) {
    while (true) {
      try {
        await this.#exchange(byteStream(await connect()))
      } catch {
        this.#bytes = undefined
      }
    }
  }

  async #exchange (bytes) {
    await bytes.write(frame(HELLO, u64(session)))
    const theirs = (await readKind(bytes, HELLO)).session
    if (this.#theirs != null && this.#theirs !== theirs) {
      for (const { reject } of this.#waiting.values()) reject(new Error('lost: the peer has restarted'))
      this.#waiting.clear()
    }
    this.#theirs = theirs
    // Those that are added meanwhile come out here, too.
    for (const { parcel } of this.#waiting.values()) await bytes.write(parcel)
    this.#bytes = bytes
    while (true) {
      const { sequence, status } = await readKind(bytes, ACK)
      this.#waiting.get(sequence)?.resolve(status)
      this.#waiting.delete(sequence)
    }
  }
}
