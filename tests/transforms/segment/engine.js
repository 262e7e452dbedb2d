// Segment's own engine, a line of JSON in, a line of JSON out: {mapping, event} or {condition, event}.
const { transform } = require('@segment/actions-core')
const { parseFql, validate } = require('@segment/destination-subscriptions')
const readline = require('readline')

const kept = (_, value) => (Array.isArray(value) ? value.filter((item) => item !== undefined) : value)

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const { mapping, condition, event } = JSON.parse(line)
  let answer
  try {
    const value = condition === undefined ? transform(mapping, event) : validate(parseFql(condition), event)
    answer = value === undefined ? { missing: true } : { value }
  } catch (error) {
    answer = { error: String(error.message) }
  }
  process.stdout.write(JSON.stringify(answer, kept) + '\n')
})
