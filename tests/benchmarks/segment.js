// Mappings per second of CPU time of Segment's own engine: a mapping and an event as JSON on stdin, the figure on stdout.
const { transform } = require('@segment/actions-core')

const { mapping, event } = JSON.parse(require('fs').readFileSync(0, 'utf8'))
const run = (count) => {
  const start = process.cpuUsage()
  for (let i = 0; i < count; i++) transform(mapping, event)
  const { user, system } = process.cpuUsage(start) // microseconds of all threads, as Python's process_time
  return count / ((user + system) / 1e6)
}
run(20000)
process.stdout.write(JSON.stringify({ rate: run(60000), value: transform(mapping, event) }))
