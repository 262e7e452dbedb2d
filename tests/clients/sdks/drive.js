// A browser that is told what to do by lines of JSON on standard input, and answers each with one on standard output.
const { chromium } = require('playwright-core')
const readline = require('readline')

const [executablePath, profile] = process.argv.slice(2)
const args = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP *.example.com 127.0.0.1',
]

async function main() {
  const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args })
  const page = await context.newPage()
  page.on('console', (message) => console.error(message.text()))
  page.on('pageerror', (error) => console.error(error))
  const orders = {
    open: (address) => page.goto(address).then(() => null),
    run: (script) => page.evaluate(script),
    cookies: () => context.cookies(),
    forget: () => context.clearCookies().then(() => null),
    headers: (headers) => context.setExtraHTTPHeaders(headers).then(() => null),
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [order, argument] = JSON.parse(line)
    const answer = await orders[order](argument)
    process.stdout.write(JSON.stringify(answer ?? null) + '\n')
  }
  await context.close()
}

main()
