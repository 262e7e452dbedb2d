// The calls of calls.json, a list of events of the spec, made with the `analytics` that stands before.
for (const { type, ...call } of JSON.parse(require('fs').readFileSync('calls.json'))) analytics[type](call)
analytics.flush().catch((error) => console.error(error.message))
