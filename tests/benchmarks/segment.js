// Mappings a second of Segment's own engine: a mapping and an event as JSON on stdin, the figure on stdout.
const { transform } = require('@segment/actions-core')

const { mapping, event } = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const run = (count) => {
  const start = process.hrtime.bigint()
  for (let i = 0; i < count; i++) transform(mapping, event)
  return count / (Number(process.hrtime.bigint() - start) / 1e9)
}
run(5000)
process.stdout.write(JSON.stringify({ rate: run(20000), value: transform(mapping, event) }))
