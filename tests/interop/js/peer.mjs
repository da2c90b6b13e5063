// A js-libp2p peer that does what lines of JSON on stdin ask for, and tells on stdout what happens.
// The commands and events are listed in ../README.md.

import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'

import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { byteStream } from '@libp2p/utils'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

import { Inbox, Outbox, PROTOCOL } from './direct.mjs'
import { gossip, open, seal } from './topics.mjs'

// js-libp2p uses it; Node.js has it from 22 on.
Promise.withResolvers ??= function () {
  const parts = {}
  parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }))
  return parts
}

const tell = (event, fields) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')

const inbox = new Inbox((from, contentType, text) => tell('received', { from, content_type: contentType, text }))
const outboxes = new Map()
const GOODBYE = '/fednode/goodbye/1.0.0'
const REASONS = { 1: 'removed', 2: 'not a member', 3: 'stopping' }
// Messages that wait for their answer while the next ones are sent.
const AT_ONCE = 16
let stopped = true
let node

function connectionTo (peer) {
  return node.getConnections().find(({ remotePeer, status }) => remotePeer.toString() === peer && status === 'open')
}

// A stream for direct messages, once there is a connection for it.
async function streamTo (peer) {
  while (true) {
    try {
      return await connectionTo(peer).newStream(PROTOCOL)
    } catch {
      await setTimeout(50)
    }
  }
}

function outboxTo (peer) {
  if (!outboxes.has(peer)) outboxes.set(peer, new Outbox(() => streamTo(peer)))
  return outboxes.get(peer)
}

const commands = {
  async start ({ private_key: key }) {
    const seed = Buffer.from(key, 'base64').subarray(0, 32)
    node = await createLibp2p({
      privateKey: await generateKeyPairFromSeed('Ed25519', seed),
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify(), identifyPush: identifyPush(), ping: ping(), pubsub: gossip },
      // Who calls whom is the test's to say.
      connectionManager: { reconnectRetries: 0 }
    })
    await node.handle(PROTOCOL, async (stream, connection) => {
      await inbox.serve(stream, connection.remotePeer.toString()).catch((error) => stream.abort(error))
    })
    await node.handle(GOODBYE, async (stream, connection) => {
      const [reason] = (await byteStream(stream).read({ bytes: 1 })).subarray()
      tell('goodbye', { peer: connection.remotePeer.toString(), reason: REASONS[reason] ?? `unknown (${reason})` })
      await stream.close()
    })
    node.services.pubsub.addEventListener('message', ({ detail: { topic, from, data } }) => {
      const message = open(data)
      if (message) tell('heard', { topic, from: from.toString(), content_type: message.contentType, text: message.text })
    })
    node.addEventListener('connection:open', ({ detail }) => tell('connected', { peer: detail.remotePeer.toString() }))
    node.addEventListener('connection:close', ({ detail }) => tell('disconnected', { peer: detail.remotePeer.toString() }))
    const [address] = node.getMultiaddrs()
    return { peer: node.peerId.toString(), address: address.decapsulate('/p2p').toString() }
  },

  async dial ({ address }) {
    await node.dial(multiaddr(address))
    return {}
  },

  async hang_up ({ peer }) {
    connectionTo(peer).abort(new Error('told to'))
    return {}
  },

  async send ({ peer, content_type: contentType, text }) {
    return { status: await outboxTo(peer).send(contentType, text) }
  },

  async repeat ({ peer }) {
    return { status: await outboxTo(peer).repeat() }
  },

  // Numbered messages, many at once, until it is told to stop.
  async stream ({ peer }) {
    const outbox = outboxTo(peer)
    const [answers, statuses] = [[], {}]
    const count = (status) => { statuses[status] = (statuses[status] ?? 0) + 1 }
    let sent = 0
    for (stopped = false; !stopped; sent++) {
      answers.push(outbox.send('text/plain', String(sent)))
      if (answers.length === AT_ONCE) count(await answers.shift())
    }
    for (const answer of answers) count(await answer)
    return { sent, statuses }
  },

  async stop () {
    stopped = true
    return {}
  },

  async subscribe ({ topic }) {
    node.services.pubsub.subscribe(topic)
    return {}
  },

  async publish ({ topic, content_type: contentType, text }) {
    await node.services.pubsub.publish(topic, seal(contentType, text))
    return {}
  },

  async subscribers ({ topic }) {
    return { peers: node.services.pubsub.getSubscribers(topic).map(String) }
  },

  async ping ({ peer }) {
    await node.services.ping.ping(connectionTo(peer).remotePeer)
    return {}
  },

  async identify ({ peer }) {
    const { protocolVersion, agentVersion, protocols, listenAddrs, observedAddr } =
      await node.services.identify.identify(connectionTo(peer))
    return {
      protocol_version: protocolVersion,
      agent: agentVersion,
      protocols,
      addresses: listenAddrs.map(String),
      observed: String(observedAddr)
    }
  }
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const { id, do: name, ...fields } = JSON.parse(line)
  try {
    tell('done', { id, ...await commands[name](fields) })
  } catch (error) {
    tell('failed', { id, error: `${error.name}: ${error.message}` })
  }
})
// The test is over.
lines.on('close', () => process.exit(0))
