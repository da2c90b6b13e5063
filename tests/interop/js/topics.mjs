// Topics: gossipsub is the library's; what is in a message is written from docs/wire.md.

import { gossipsub } from '@libp2p/gossipsub'

const VERSION = 1
// Version, number and length of the content type.
const HEAD = 10

// Higher than those of the process before.
let number = BigInt(Date.now()) * 1_000_000n

function u64 (value) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

// As the specification has it, and everybody must have it who gossips: the bytes of `from`, then those of `seqno`. The library's own
// begins with the protobuf of the public key instead.
function messageId ({ from, sequenceNumber }) {
  return Buffer.concat([from.toMultihash().bytes, u64(sequenceNumber)])
}

// Strict signatures are the default.
export const gossip = gossipsub({ msgIdFn: messageId })

// The data of the next message.
export function seal (contentType, text) {
  number += 1n
  const type = Buffer.from(contentType, 'ascii')
  return Buffer.concat([Buffer.from([VERSION]), u64(number), Buffer.from([type.length]), type, Buffer.from(text)])
}

// What is in a message; nothing for a version that is not known here.
export function open (data) {
  const bytes = Buffer.from(data)
  if (bytes[0] !== VERSION) return undefined
  const end = HEAD + bytes[9]
  return { contentType: bytes.subarray(HEAD, end).toString('ascii'), text: bytes.subarray(end).toString() }
}
