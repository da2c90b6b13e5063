// Real nodes for the browser to look at.

import { execFileSync, spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export const SECRET = 'a secret of thirty-two bytes or more'

/** A port that is free now. */
function freePort () {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => resolve(port)) })
  })
}

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A token (RFC 7519), by HS256, that ends after so many seconds. */
export function token (seconds, secret = SECRET) {
  const text = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: 'browser', exp: Math.floor(Date.now() / 1000) + seconds })}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

export class Node {
  /** A node with its own folder, not started yet. */
  static async prepare (binary, name) {
    const node = new Node()
    node.binary = binary
    node.name = name
    node.folder = mkdtempSync(join(tmpdir(), 'fednode-browser-'))
    node.run('init')
    node.id = JSON.parse(node.run('id', '--json'))
    node.port = await freePort()
    node.admin = await freePort()
    node.settings = { level: 'info', topics: '[]', sources: '[{header: Authorization}, {query: token}]' }
    return node
  }

  get url () { return `http://127.0.0.1:${this.admin}/` }

  get entry () { return `  - {public_key: "${this.id.public_key}", name: ${JSON.stringify(this.name)}, addresses: ["/ip4/127.0.0.1/tcp/${this.port}"]}\n` }

  run (...args) { return execFileSync(this.binary, ['-c', join(this.folder, 'conf.yaml'), ...args], { encoding: 'utf8' }) }

  /** Writes conf.yaml with these settings besides those it had. */
  write (settings = {}) {
    Object.assign(this.settings, settings)
    const { level, topics, sources } = this.settings
    this.key ??= /^ *private_key:.*$/m.exec(readFileSync(join(this.folder, 'conf.yaml'), 'utf8'))[0]
    writeFileSync(join(this.folder, 'conf.yaml'), `node:
${this.key}
network: {addresses: ["/ip4/127.0.0.1/tcp/${this.port}"]}
peers: {connection_timeout: 5s}
protocol: {topics: ${topics}}
logging: {level: ${level}, format: json}
admin:
  listen: "127.0.0.1:${this.admin}"
  jwt: {algorithm: HS256, secret: "${SECRET}", sources: ${sources}}
`, { mode: 0o600 })
  }

  async start (nodes) {
    writeFileSync(join(this.folder, 'peers.yaml'), 'peers:\n' + nodes.map((node) => node.entry).join(''))
    this.write()
    this.process = spawn(this.binary, ['-c', join(this.folder, 'conf.yaml')], { stdio: ['ignore', 'pipe', 'inherit'] })
    await new Promise((resolve, reject) => {
      let log = ''
      this.process.once('exit', (code) => reject(new Error(`the node ended with ${code}: ${log}`)))
      this.process.stdout.on('data', (text) => { if ((log += text).includes('Node started successfully')) resolve() })
    })
    this.process.stdout.resume()
  }

  reload () { this.process.kill('SIGHUP') }

  async stop () {
    if (this.process && this.process.exitCode === null && this.process.signalCode === null) {
      const ended = new Promise((resolve) => this.process.removeAllListeners('exit').once('exit', resolve))
      this.process.kill('SIGTERM')
      await ended
    }
    rmSync(this.folder, { recursive: true })
  }
}
