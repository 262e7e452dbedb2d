// The calls of calls.json, a list of events of the spec, made with the `analytics` that stands before.
async function send() {
  for (const { type, ...call } of JSON.parse(require('fs').readFileSync('calls.json'))) {
    const first = { identify: call.userId, group: call.groupId, track: call.event, page: call.name }[type]
    await analytics[type](first, call.traits ?? call.properties)
  }
}
send()
