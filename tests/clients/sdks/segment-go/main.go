// The calls of calls.json, a list of events of the spec, made with what `newClient` returns. When it is closed, the client drops
// what it is still trying to send: it is closed at the end of standard input.
package main

import (
	"encoding/json"
	"io"
	"log"
	"os"

	"github.com/segmentio/analytics-go/v3"
)

var readers = map[string]func([]byte) (analytics.Message, error){
	"track":    read[analytics.Track],
	"page":     read[analytics.Page],
	"screen":   read[analytics.Screen],
	"identify": read[analytics.Identify],
	"group":    read[analytics.Group],
	"alias":    read[analytics.Alias],
}

func read[M analytics.Message](call []byte) (analytics.Message, error) {
	var message M
	err := json.Unmarshal(call, &message)
	return message, err
}

func main() {
	client, err := newClient()
	check(err)
	file, err := os.ReadFile("calls.json")
	check(err)
	var calls []json.RawMessage
	check(json.Unmarshal(file, &calls))
	for _, call := range calls {
		var kind struct{ Type string }
		check(json.Unmarshal(call, &kind))
		message, err := readers[kind.Type](call)
		check(err)
		check(client.Enqueue(message))
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	check(err)
	check(client.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
