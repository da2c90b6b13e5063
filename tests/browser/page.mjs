// What a browser sees of the page, and what it must not do. Waits for what it looks for; a wait that is too long is a failure.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import puppeteer from 'puppeteer-core'
import { Node, token } from './nodes.mjs'

const [browserPath, binary, option, folder] = process.argv.slice(2)
const pictures = option === '--pictures' ? folder : null
const HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'

const scenes = {
  async 'without a token it says only whether the node is ready' ({ page, nodes }) {
    const response = await page.goto(nodes[0].url)
    assert.equal(response.status(), 401)
    await sees(page, 'main', /healthy/)
    assert.doesNotMatch(await text(page, 'body'), /Members|generation|south/)
    assert.ok(await page.$eval('#token', (form) => !form.hidden), 'it asks for a token')
  },

  async 'a token that does not count opens nothing' ({ page, nodes }) {
    await page.goto(nodes[0].url)
    await use(page, token(60, 'another secret of thirty-two bytes or more'))
    await sees(page, '#live', /does not count/)
    assert.doesNotMatch(await text(page, 'body'), /Members/)
  },

  async 'with a token it shows the members, and a reload as it happens' ({ page, nodes }) {
    await page.goto(nodes[0].url)
    await use(page, token(600))
    await sees(page, '#live', /^live$/)
    await sees(page, 'main', /south/)
    await sees(page, 'main', /3 of 3/)
    const rows = () => page.$$eval('.timeline li', (rows) => rows.length)
    const before = await rows()
    nodes[0].write({ topics: '[{name: blocks}]' })
    nodes[0].reload()
    await page.waitForFunction((before) => document.querySelectorAll('.timeline li').length > before, {}, before)
    await page.click('.timeline li summary')
    await sees(page, '.timeline li details[open]', /protocol\.topics/)
    nodes[0].write({ level: 'nonsense' })
    nodes[0].reload()
    await sees(page, '.timeline li', /rejected/)
    assert.match(await text(page, '.timeline li details[open]'), /protocol\.topics/, 'what was open stays open')
    await picture(page, 'page.png')
    nodes[0].write({ level: 'info' })
    nodes[0].reload()
  },

  async 'nothing is done without a token, and a plan is shown with one' ({ page, nodes }) {
    await page.goto(`${nodes[0].url}?token=${token(600)}`)
    await sees(page, 'main', /Members/)
    assert.ok(await page.$eval('.actions', (section) => section.hidden), 'no actions by a link alone')
    await use(page, token(600))
    await sees(page, '#live', /^live$/)
    await page.click('button[data-post*="dry_run"]')
    await sees(page, '#answer', /"outcome": "(planned|unchanged)"/)
  },

  async 'a member that is down is an alarm' ({ page, nodes }) {
    await page.goto(nodes[0].url)
    await use(page, token(600))
    await sees(page, 'main', /3 of 3/)
    nodes[2].process.kill('SIGKILL')
    await sees(page, '.alarm', /Quorum at risk/)
    await picture(page, 'page-alarm.png')
  },

  async 'without script it says the same' ({ page, nodes }) {
    await page.setJavaScriptEnabled(false)
    await page.goto(`${nodes[0].url}?token=${token(600)}`)
    const main = await text(page, 'body')
    for (const said of [/south/, /Reloads/, /committed/, /listeners/, /Without script/]) assert.match(main, said)
    assert.ok(await page.$eval('#token', (form) => form.hidden), 'nothing is asked for that does nothing')
  },

  async 'a hostile name is text' ({ page, nodes }) {
    await page.goto(nodes[0].url)
    await use(page, token(600))
    await sees(page, 'main', /onerror=/)
    assert.equal(await page.evaluate(() => window.hit), undefined)
  }
}

const text = (page, selector) => page.$eval(selector, (element) => element.innerText)

async function sees (page, selector, pattern) {
  const look = (selector, source) => [...document.querySelectorAll(selector)].some((e) => new RegExp(source, 'm').test(e.innerText || e.textContent))
  try {
    await page.waitForFunction(look, { timeout: 60000 }, selector, pattern.source)
  } catch (error) {
    throw new Error(`${selector} does not say ${pattern}, but: ${await text(page, 'body')}`, { cause: error })
  }
}

async function use (page, token) {
  await page.type('#token-value', token)
  await page.click('#token button:not([type])')
}

async function picture (page, name) {
  if (!pictures) return
  mkdirSync(pictures, { recursive: true })
  await page.screenshot({ path: join(pictures, name) })
}

async function main () {
  const nodes = [await Node.prepare(binary, 'north'), await Node.prepare(binary, 'south'), await Node.prepare(binary, HOSTILE)]
  let failed = 0
  // Chromium's own sandbox does not run as root, which containers are.
  const args = process.getuid() === 0 ? ['--no-sandbox'] : []
  const browser = await puppeteer.launch({ executablePath: browserPath, args, defaultViewport: { width: 1280, height: 900 } })
  try {
    for (const node of nodes) await node.start(nodes)
    for (const [name, scene] of Object.entries(scenes)) {
      // Tokens and permissions of one scene are not there in the next.
      const context = await browser.createBrowserContext()
      const page = await context.newPage()
      const refused = []
      page.on('console', (message) => { if (/Content.Security.Policy/i.test(message.text())) refused.push(message.text()) })
      page.on('pageerror', (error) => refused.push(String(error)))
      try {
        await scene({ page, nodes })
        assert.deepEqual(refused, [], 'the page does nothing that its own policy forbids')
        console.log(`ok      ${name}`)
      } catch (error) {
        failed += 1
        console.log(`FAILED  ${name}\n${error.stack}`)
      } finally {
        await context.close()
      }
    }
  } finally {
    await browser.close()
    for (const node of nodes) await node.stop()
  }
  process.exit(failed === 0 ? 0 : 1)
}

await main()
